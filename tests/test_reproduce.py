"""Retraining a recorded run gives identical bits, and any difference is reported."""

import json
import math
import shutil
import sqlite3
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

import rarelab
from rarelab.cli import main
from rarelab.errors import RarelabError
from rarelab.runs.folder import _found_anywhere
from rarelab.runs.reproduce import _unequal, _with_file
from rarelab.training.loop import Trainer

SMALL = [
    *("dataset.n_samples=1500", "dataset.pos_rate=0.05", "trainer.max_epochs=3"),
    *("trainer.batch_size=256", "schedule.warmup_epochs=1", "schedule.blend_epochs=1"),
    "model.dropout=0.1",
]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rarelab.runs.evaluation.run_figures", lambda *arguments: None)


@pytest.fixture
def recorded(home: Path) -> Path:
    return rarelab.train([*SMALL, "tracking=none"]).directory


def reproduce(capsys, *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["reproduce", *arguments])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_run_is_reproduced_by_folder_without_touching_anything_else(
    recorded, home, capsys
) -> None:
    before = {path: path.stat().st_mtime_ns for path in recorded.rglob("*")}
    code, said = reproduce(capsys, f"rarelab/{recorded.name}")
    assert code == 0, said
    assert "is reproduced: all" in said
    assert "differs today" not in said
    assert {path: path.stat().st_mtime_ns for path in recorded.rglob("*")} == before
    assert not (home / "mlflow.db").exists()
    assert [path.name for path in (home / "runs" / "reproduced").iterdir()] == [recorded.name]


def test_a_file_is_found_from_another_folder(tmp_path: Path, monkeypatch) -> None:
    """New records have an absolute path; older ones were made where ``outputs/`` is."""
    leaf = {"path": "t.csv", "target": "y"}
    (tmp_path / "t.csv").touch()
    monkeypatch.chdir(tmp_path)
    assert _found_anywhere(leaf) == {**leaf, "path": str(tmp_path / "t.csv")}
    assert _found_anywhere({"path": "none.csv"}) == {"path": "none.csv"}
    home, record = tmp_path / "outputs", tmp_path / "outputs" / "run"
    record.mkdir(parents=True)
    monkeypatch.chdir(home)
    assert _with_file(leaf, record, home)["path"] == str(tmp_path / "t.csv")
    (tmp_path / "t.csv").rename(record / "t.csv")
    assert _with_file(leaf, record, home)["path"] == str(record / "t.csv")
    assert _with_file({"path": "none.csv"}, record, home) == {"path": "none.csv"}


@pytest.mark.parametrize("address", ["sqlite:///clinic.db", "duckdb:///clinic.duckdb", None])
def test_a_querys_run_is_reproduced_from_another_folder(
    tmp_path: Path, home, monkeypatch, capsys, address: str | None
) -> None:
    rows = np.random.default_rng(0).normal(size=(400, 3))
    table = pd.DataFrame(rows, columns=["a", "b", "c"]).assign(y=(rows[:, 0] > 1).astype(int))
    monkeypatch.chdir(tmp_path)
    table.to_parquet("rows.parquet")
    with sqlite3.connect("clinic.db") as database:
        table.to_sql("rows", database, index=False)
    database.close()
    with duckdb.connect("clinic.duckdb") as database:
        database.sql("CREATE TABLE rows AS FROM 'rows.parquet'")
    source = "rows" if address else f"'{tmp_path / 'rows.parquet'}'"
    asked = [f"dataset.sql=SELECT * FROM {source} ORDER BY a", "dataset.target=y", "model=linear"]
    asked += [f"dataset.uri={address}"] if address else []
    asked += ["schedule=constant", "trainer.max_epochs=1", "tracking=none"]
    run = rarelab.train(["dataset=file", *asked])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, said = reproduce(capsys, f"rarelab/{run.directory.name}")
    assert code == 0 and "is reproduced: all" in said and "differs today" not in said

    if address:  # a database that has gone is named, and not created
        for file in tmp_path.glob("clinic.*"):
            file.unlink()
        code, said = reproduce(capsys, f"rarelab/{run.directory.name}")
        assert code == 2 and f"there is no file {tmp_path / 'clinic.'}" in said
        assert not [*tmp_path.rglob("clinic.*")]


def test_a_run_only_in_mlflow_is_reproduced_by_id(home, capsys) -> None:
    done = rarelab.train(SMALL)
    shutil.rmtree(home / "runs")
    code, said = reproduce(capsys, done.run_id)
    assert code == 0, said
    code, said = reproduce(capsys, "0" * 32)
    assert code == 2
    assert f"{'0' * 32}: there is no such run; " in said


def test_a_differing_metric_is_named(recorded, capsys) -> None:
    path = recorded / "history.jsonl"
    lines = path.read_text().splitlines()
    row = json.loads(lines[1])
    row["metrics"]["train/loss"] += 1e-16 + abs(row["metrics"]["train/loss"]) * 1e-15
    path.write_text("\n".join([lines[0], json.dumps(row), *lines[2:-1]]) + "\n")
    code, said = reproduce(capsys, recorded.name)
    assert code == 1
    assert "unequal: step 1 train/loss: " in said
    assert "is NOT reproduced" in said
    assert "test/aucpr: None was recorded" in said or "test/auroc: None was recorded" in said


def test_a_row_at_another_step_counts_as_different() -> None:
    rows = [(1, {"a": 1.0}), (2, {"a": math.nan})]
    assert list(_unequal(rows, rows)) == []
    assert list(_unequal(rows, [(1, {"a": 1.0}), (3, {"a": math.nan})])) == [
        "row 2: step 2 was recorded, 3 found"
    ]


def test_changes_since_the_recording_are_reported(recorded, capsys) -> None:
    edit(recorded / "environment.json", lambda facts: facts["packages"].update(numpy="1.0"))
    edit(recorded / "environment.json", lambda facts: facts.update(python="2.7"))
    edit(recorded / "record.json", lambda entry: entry["tags"].update({"rarelab.code": "x"}))
    edit(recorded / "record.json", lambda entry: entry["tags"].update({"rarelab.data_digest": "x"}))
    code, said = reproduce(capsys, recorded.name)
    assert code == 0
    for line in (
        "numpy 1.0 -> ",
        "python 2.7 -> ",
        "fingerprint has changed",
        "digest has changed",
    ):
        assert f"{line}" in said


def test_a_diverged_run_is_reproduced_as_such(home, capsys, monkeypatch) -> None:
    usual = Trainer._forward
    calls = [0]

    def breaks(*arguments):
        logits, loss = usual(*arguments)
        calls[0] += 1
        return logits, loss * (float("nan") if calls[0] % 11 == 0 else 1.0)

    monkeypatch.setattr(Trainer, "_forward", breaks)
    with pytest.raises(RarelabError):
        rarelab.train([*SMALL, "tracking=none"])
    (directory,) = [d for d in (home / "runs" / "rarelab").iterdir() if d.is_dir()]
    calls[0] = 0
    code, said = reproduce(capsys, directory.name)
    assert code == 0, said


@pytest.mark.parametrize(
    ("spoil", "answer"),
    [
        (lambda d: (d / "status.json").unlink(), "its status is running; only a finished run"),
        (
            lambda d: edit(d / "status.json", lambda s: s.update(status="interrupted")),
            "its status is interrupted; only a finished run can be reproduced",
        ),
        (
            lambda d: edit(
                d / "record.json", lambda e: e["tags"].update({"rarelab.kind": "sweep"})
            ),
            "is a sweep; name one of its runs",
        ),
        (
            lambda d: OmegaConf.save(
                OmegaConf.merge(
                    OmegaConf.load(d / "config.yaml"), {"loss": {"_target_": "os.system"}}
                ),
                d / "config.yaml",
            ),
            "loss._target_=os.system: a record may only name components of its group",
        ),
        (
            lambda d: OmegaConf.save(
                OmegaConf.merge(
                    OmegaConf.load(d / "config.yaml"), {"dataset": {"n_samples": "***"}}
                ),
                d / "config.yaml",
            ),
            "dataset.n_samples: its value was a secret, which is not kept in a record",
        ),
    ],
    ids=["running", "interrupted", "sweep", "target", "secret"],
)
def test_what_cannot_be_reproduced_is_refused(recorded, home, capsys, spoil, answer) -> None:
    spoil(recorded)
    code, said = reproduce(capsys, recorded.name)
    assert code == 2
    assert answer in said
    assert len(said.strip().splitlines()) == 1
    assert not (home / "runs" / "reproduced").exists()


def test_a_mangled_record_is_refused_in_one_line(recorded, home, capsys) -> None:
    config = OmegaConf.to_container(OmegaConf.load(recorded / "config.yaml"))
    assert isinstance(config, dict)
    lost = [json.dumps({k: v for k, v in config.items() if k != key}) for key in config]
    null = [json.dumps(config | {key: None}) for key in ("dataset", "model", "loss", "trainer")]
    mangled = {
        "record.json": ["", "[]", '{"name": 1}', "null"],
        "status.json": ["[]", "{}", '"done"', "7"],
        "history.jsonl": ['{"step": 1}', "[1]", '{"metrics": {}}', '{"step": 1, "metrics": []}'],
        "config.yaml": ["", "[1]", "{", *null, *lost],
    }
    entry = json.loads((recorded / "record.json").read_text())
    mangled["record.json"] += [json.dumps(entry | {key: None}) for key in ("tags", "params")]
    optional = {"tracking", "paths", "allow_targets", "sweep", "lr_schedule"}
    optional |= {"budget", "threshold"}  # earlier records lack them
    for file, contents in mangled.items():
        path = recorded / file
        whole = path.read_bytes()
        for content in contents:
            if content in lost and [*config][lost.index(content)] in optional:
                continue
            path.write_text(content)
            code, said = reproduce(capsys, f"rarelab/{recorded.name}")
            assert code == 2, (file, content[:200], said)
            assert len(said.strip().splitlines()) == 1
        path.write_bytes(whole)
    (recorded / "history.jsonl").unlink()
    assert reproduce(capsys, recorded.name)[0] == 2
    assert not (home / "runs" / "reproduced").exists()


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["nothing"], "nothing: there is no such run; there are none"),
        (["x", "allow=[a]"], "allow=[a]: expected allow_targets=[MODULE,...]"),
    ],
)
def test_an_invalid_request_is_refused(home, capsys, arguments, answer) -> None:
    code, said = reproduce(capsys, *arguments)
    assert code == 2
    assert answer in said
    assert not home.exists()
