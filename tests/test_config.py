"""Every shipped leaf composes, has an existing target, and lists all of its parameters."""

import inspect
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from rarelab.config import build, groups
from rarelab.config.check import check_leaf, parameters
from rarelab.config.components import load_target
from rarelab.config.compose import compose_train
from rarelab.errors import RequestError
from rarelab.paths import config_root

CONF = config_root() / "conf"
LEAVES = sorted(
    path.relative_to(CONF) for group in groups.LEAVES for path in (CONF / group).glob("*.yaml")
)
STUDIES = sorted(path.stem for path in (CONF / "experiments").glob("*.yaml"))


def read(leaf: Path) -> dict:
    return yaml.safe_load((CONF / leaf).read_text(encoding="utf-8"))


def test_every_group_of_the_configuration_has_leaves() -> None:
    assert {leaf.parts[0] for leaf in LEAVES} == set(groups.LEAVES)
    assert len(LEAVES) > 30
    assert STUDIES


def test_the_table_of_groups_matches_the_configuration() -> None:
    content = read(Path("train.yaml"))
    defaults = [line for line in content.pop("defaults") if isinstance(line, dict)]
    chosen = {key for line in defaults for key in line if not key.startswith("override ")}
    presets = {group.name for group in groups.GROUPS if group.role == "preset"}
    assert chosen == {*groups.LEAVES, *presets}
    assert {*content} == {*groups.VALUES, "hydra"}
    names = [group.name for group in groups.GROUPS]
    assert sorted(names) == sorted(chosen | {*content})
    for group, keys in groups.FREE.items():
        for leaf in LEAVES:
            assert leaf.parts[0] != group or {*keys} <= {*read(leaf)}


@pytest.mark.parametrize("key", ["model", "seed", "lr_schedule"])
def test_a_missing_key_is_refused(key: str) -> None:
    plain = OmegaConf.to_container(compose_train([])[0])
    assert isinstance(plain, dict)
    del plain[key]
    with pytest.raises(RequestError, match=f"{key}: this key is required"):
        build.check(OmegaConf.create(plain))


@pytest.mark.parametrize("leaf", LEAVES, ids=str)
def test_a_leaf_matches_its_targets_signature(leaf: Path) -> None:
    content = read(leaf)
    if not content:
        assert leaf == Path("lr_schedule/constant.yaml")
        return
    target = load_target("_target_", content.pop("_target_"), leaf.parts[0])
    expected = set(parameters(target)) - build.FROM_BUILDER
    assert set(content) == expected


@pytest.mark.parametrize("leaf", LEAVES, ids=str)
def test_a_leaf_composes_and_passes_its_own_check(leaf: Path) -> None:
    cfg, choices = compose_train([f"{leaf.parts[0]}={leaf.stem}", *REQUIRED.get(str(leaf), [])])
    assert choices[leaf.parts[0]] == leaf.stem
    build.check(cfg)


REQUIRED = {"dataset/file.yaml": ["dataset.path=x.csv", "dataset.target=y"]}


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_composes_and_its_values_override_the_defaults(study: str) -> None:
    cfg, _ = compose_train([f"experiments={study}", "trainer.threads=7"])
    build.check(cfg)
    own = yaml.safe_load((CONF / "experiments" / f"{study}.yaml").read_text())
    own.pop("defaults")
    own.pop("hydra", None)  # how it is swept, not part of a run
    assert OmegaConf.to_container(OmegaConf.merge(cfg, own)) == OmegaConf.to_container(cfg)
    assert cfg.trainer.threads == 7


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("trainer.max_epoch=5", "trainer.max_epochs"),
        ("loss=smoth_ap", "smooth_ap"),
        ("datset=toy", "dataset"),
        ("optimizer.lrr=1", "optimizer.lr"),
        ("experiments=toy_dmo", "toy_demo"),
        ("seed==", "seed"),
    ],
)
def test_a_mistyped_name_suggests_the_nearest_one(override: str, answer: str) -> None:
    with pytest.raises(RequestError) as caught:
        compose_train([override])
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("loss.temperature=abc", "loss.temperature=abc: expected a number"),
        ("loss.reduction=foo", "loss.reduction=foo: expected one of mean, sum, none"),
        ("optimizer.lr=abc", "optimizer.lr=abc: expected a number"),
        ("loss.max_pool_size=x", "loss.max_pool_size=x: expected a whole number or null"),
        ("loss.max_pool_size=2.5", "loss.max_pool_size=2.5: expected a whole number or null"),
        ("trainer.max_epochs=true", "trainer.max_epochs=true: expected a whole number"),
        ("trainer.select=mian", "did you mean 'main'?"),
        ("seed=abc", "seed=abc: expected a whole number"),
        ("allow_targets=mine", "allow_targets=mine: expected a list"),
        ("+sede=3", "sede: there is no such key; did you mean 'seed'?"),
        ("model.hidden=abc", "model.hidden=abc: expected a list"),
        ("+loss.tau=1", "loss.tau: rarelab.losses.SmoothAPLoss has no such parameter"),
        ("+loss.temprature=1", "did you mean 'temperature'?"),
        ("optimizer.betas=[0.9]", "optimizer.betas=[0.9]: expected"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(override: str, expected: str) -> None:
    cfg, _ = compose_train([override])
    with pytest.raises(RequestError) as caught:
        build.check(cfg)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_with_a_null_character_is_refused() -> None:
    cfg, _ = compose_train([])
    cfg.tracking.experiment = "a\0b"
    with pytest.raises(RequestError, match=r"tracking\.experiment='a\\x00b': expected text"):
        build.check(cfg)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.run",
        "torch.hub.load_state_dict_from_url",
        "torch.nn.functional.torch.hub.load_state_dict_from_url",
        "rarelab.cli.os.system",
        "torch.nnx.Linear",
        "torch.nn.Linear",
        "rarelab.models.MLP",
        "rarelab.cli.main",
        "sklearn.linear_model.LogisticRegression",
    ],
)
def test_a_target_outside_the_groups_components_is_refused(target: str) -> None:
    with pytest.raises(RequestError, match=r"is not a loss of rarelab or torch.*allow_targets"):
        check_leaf("loss", {"_target_": target}, allow=[])


def test_a_target_that_does_not_exist_suggests_the_nearest() -> None:
    with pytest.raises(RequestError, match="SmoothAPLoss"):
        check_leaf("loss", {"_target_": "rarelab.losses.SmothAPLoss"}, allow=[])


def test_the_users_own_module_is_allowed_by_name(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine_a.py").write_text("class Loss:\n    def __init__(self, a: int): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    check_leaf("loss", {"_target_": "mine_a.Loss", "a": 1}, allow=["mine_a"])
    with pytest.raises(RequestError, match="required by"):
        check_leaf("loss", {"_target_": "mine_a.Loss"}, allow=["mine_a"])
    with pytest.raises(RequestError, match="allow_targets"):
        check_leaf("loss", {"_target_": "mine_a.Loss", "a": 1}, allow=[])


def test_parameters_filled_in_by_the_builder_exist_somewhere() -> None:
    named = [(leaf.parts[0], read(leaf)["_target_"]) for leaf in LEAVES if read(leaf)]
    targets = [load_target("_target_", path, group) for group, path in named]
    known = {name for target in targets for name in inspect.signature(target).parameters}
    assert known >= build.SUPPLIED


def test_later_keys_that_change_nothing_are_no_part_of_a_run(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("x,y\n" + "1,0\n2,1\n" * 30, encoding="utf-8")
    cfg, _ = compose_train(["dataset=file", f"dataset.path={table}", "dataset.target=y"])
    left = groups.identity(OmegaConf.to_container(cfg, resolve=True))["dataset"]
    assert not {"csv", "sql", "uri", "positive_if", "unlabelled"} & set(left)
    assert not {"test_share", "val_share", "folds", "origins"} & set(left)
    assert not {"high_cardinality", "hash_buckets", "dates"} & set(left)
    assert not {"text", "text_columns", "text_components"} & set(left)
    assert left["split"] == "auto" and left["split_seed"] == 0
    cfg.dataset.csv.sep = ";"
    assert "csv" in groups.identity(OmegaConf.to_container(cfg, resolve=True))["dataset"]
