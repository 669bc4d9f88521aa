"""Nothing untrusted is executed, unpickled or followed, and no secret is recorded."""

import ast
import importlib.util
import json
import os
import socket
from pathlib import Path
from types import ModuleType

import pytest

import rarelab
from rarelab.config.check import check_leaf
from rarelab.errors import RarelabError, RequestError
from rarelab.records.config import hidden_keys, recorded_config

TESTS = Path(__file__).parent
MODULES = sorted((TESTS.parent / "src").rglob("*.py"))


def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", TESTS / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "value",
    [
        {"_target_": "os.system"},
        [{"_target_": "os.system"}],
        [[1, {"a": [{"_target_": "os.system"}]}]],
        {"a": {"b": {"_target_": "os.system"}}},
    ],
    ids=json.dumps,
)
def test_a_target_is_checked_at_any_depth(value) -> None:
    leaf = {"_target_": "rarelab.models.MLP", "hidden": value}
    with pytest.raises(RequestError, match=r"_target_: 'os\.system' is not a model of"):
        check_leaf("model", leaf, allow=[], supplied=frozenset({"in_features", "num_outputs"}))


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "rarelab.training.keeper.save",
        "rarelab.data.archives.fetch.extract",
        "torch.nn.Linear",
        "sklearn.datasets.fetch_openml",
        "rarelab.config.check.importlib.import_module",
        None,
        ["os.system"],
    ],
    ids=str,
)
def test_a_record_may_only_name_components_of_its_group(tmp_path, target) -> None:
    config = {"dataset": {"_target_": target}, "allow_targets": ["os", "rarelab", "torch"]}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    with pytest.raises(RequestError, match=r"dataset\._target_.* components of its group"):
        recorded_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("dataset: {path: '${oc.env:HOME}'}", "interpolations are not allowed in a record"),
        ("dataset: [{a: '${now:%Y}'}]", "interpolations are not allowed in a record"),
        ("!!python/object/apply:os.system ['true']", "is not a run configuration"),
        ("dataset: !!python/name:os.system", "is not a run configuration"),
        ("- 1", "it names no dataset"),
        ("a: 1", "it names no dataset"),
        ("", "it names no dataset"),
        ("a: [", "is not a run configuration"),
    ],
)
def test_a_record_that_is_not_a_plain_configuration_is_refused(tmp_path, text, answer) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(RequestError, match=answer) as refused:
        recorded_config(tmp_path / "config.yaml")
    assert "\n" not in str(refused.value)


def test_trust_comes_from_the_reader_not_the_recorded_configuration(tmp_path) -> None:
    config = {
        "dataset": {"_target_": "rarelab.data.toy.Toy", "n_samples": 9},
        "loss": {"_target_": "my_losses.Hinge", "key": "***"},
        "allow_targets": ["somebody"],
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="allow_targets="):
        recorded_config(tmp_path / "config.yaml", allow=["my_loss"])
    found = recorded_config(tmp_path / "config.yaml", allow=["my_losses"])
    assert found == config | {"allow_targets": ["my_losses"]}
    assert hidden_keys(found) == ["loss.key"]


def _called(path: Path) -> list[tuple[str, dict[str, ast.expr]]]:
    """Every call in a file as (``module.name``, keyword arguments)."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(c.func), {k.arg or "": k.value for k in c.keywords}) for c in calls]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_unpickles_or_executes_what_it_reads(path: Path) -> None:
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.partition(".")[0] for alias in node.names}
            names.add((getattr(node, "module", None) or "").partition(".")[0])
            assert not names & {"dill", "joblib", "shelve", "marshal"}
            # What one job of a sweep hands to the next, in a folder that nobody else can write to.
            assert "pickle" not in names or path.stem == "shared"
    for name, keywords in _called(path):
        assert name not in {"eval", "exec", "yaml.load", "pd.read_pickle", "os.system"}
        if name == "torch.load":
            assert ast.literal_eval(keywords["weights_only"]) is True
        if name == "np.load":
            assert ast.literal_eval(keywords["allow_pickle"]) is False
        assert not name.endswith(("extractall", ".extract"))
        assert not (name.startswith("subprocess.") and "shell" in keywords)


def test_the_dashboard_has_no_option_for_another_address(capsys) -> None:
    from rarelab.cli import main

    with pytest.raises(SystemExit):
        main(["ui", "--help"])
    assert "host" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["ui", "--host", "0.0.0.0"])


SECRET, TOKEN = "".join(["hunter2", "hunter2"]), "".join(["tok", "en-9x8y7z"])


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> str:
    """Set a password in the tracking address and a token in the environment; return the address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://ann:{SECRET}@127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    monkeypatch.setenv("MY_API_KEY", TOKEN)
    monkeypatch.setattr("sys.argv", ["rarelab", "train", f"tracking.uri={address}"])
    return address


def assert_nowhere(home: Path, *said: str) -> None:
    for path in home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert SECRET.encode() not in content and TOKEN.encode() not in content, path.name
    for text in said:
        assert SECRET not in text and TOKEN not in text


SMALL = [
    *("dataset.n_samples=1500", "dataset.pos_rate=0.05", "trainer.max_epochs=2"),
    *("trainer.batch_size=256", "trainer.select=any", "schedule.warmup_epochs=1"),
]


def test_no_secret_is_recorded(secrets, home, capsys, caplog) -> None:
    rarelab.train([*SMALL, f"tracking.uri='{secrets}'"])
    printed = capsys.readouterr()
    assert "is not recording this run" in printed.out + caplog.text
    assert_nowhere(home, printed.out, printed.err, caplog.text)


def test_no_secret_appears_in_an_error(secrets, home, capsys, monkeypatch) -> None:
    from rarelab.cli import main
    from rarelab.training.loop import Trainer

    def fails(self, *arguments) -> None:
        raise RarelabError(f"cannot reach {secrets} with {TOKEN}")

    monkeypatch.setattr(Trainer, "_update", fails)
    assert main(["train", *SMALL]) == 1
    assert main(["train", *SMALL, "tracking.uri='" + secrets.replace("http:", "htp:") + "'"]) == 2
    printed = capsys.readouterr()
    assert "cannot reach http://***@127.0.0.1" in printed.err
    assert_nowhere(home, printed.out, printed.err)
    os.environ.pop("HYDRA_FULL_ERROR", None)


@pytest.mark.parametrize(
    ("packages", "code", "line"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "1 packages without a known"),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}]}, {"name": "b"}],
            1,
            "pip-audit: a 1: CVE-1",
        ),
        (
            [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "?"}],
            0,
            "1 are NOT known to its service and were not audited",
        ),
        ([{"name": "b", "skip_reason": "?"}], 0, "NO package was audited"),
        (None, 0, "cannot be reached; NO package was audited"),
    ],
)
def test_the_audit_reports_how_many_packages_were_checked(packages, code, line) -> None:
    stdout = "" if packages is None else json.dumps({"dependencies": packages})
    found, said = audit().verdict(stdout)
    assert found == code
    assert line in said
