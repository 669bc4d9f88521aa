"""A training run that is stopped and resumed ends bit for bit like an uninterrupted one."""

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.config.signature import signature
from rarelab.streams import drawing_from, generator, stream_seed
from rarelab.training import Trainer
from rarelab.training.course import Course
from rarelab.training.history import History, read_rows
from rarelab.training.keeper import LAST, PREVIOUS, Cadence, Checkpoints, Keeper
from rarelab.training.selection import Selection

SMALL = [
    "dataset.n_samples=800",
    "dataset.pos_rate=0.05",
    "trainer.max_epochs=4",
    "trainer.batch_size=64",
    "schedule.warmup_epochs=1",
    "schedule.blend_epochs=1",
    "loss.queue_size=128",
    "model.dropout=0.2",
]
STEPS = 8  # 480 training rows at batch 64
RECIPES = {
    "blend": [],
    "sampled": ["loss.max_pool_size=100"],
    "cosine": ["lr_schedule=cosine", "optimizer=adamw", "trainer.gradient_clip_norm=0.1"],
    "linear": ["lr_schedule=linear", "optimizer=sgd", "optimizer.momentum=0.9"],
    "recall": ["loss=recall_at_quantile_iqr", "schedule.reset_queue_each_epoch=true"],
    "plain": ["loss=bce", "~loss.queue_size"],
    "balanced": ["sampler=class_balanced"],
    "select_by": ["trainer.select_by=val/recall_at_q/0.02", "trainer.max_epochs=5"],
    "patience": ["trainer.patience=1", "trainer.max_epochs=9"],
    "resnet": ["model=tabular_resnet", "~model.dropout"],
    "members": ["model=tabm", "model.k=3", "model.d_block=16", "loss.max_pool_size=100"],
}
IDENTITY = {"signature": "s", "code": "c", "data": "d"}


class Stopped(Exception):
    """Stands in for whatever ends a process."""


class StopAfter:
    """A stop condition that fires on its ``times``-th call."""

    def __init__(self, times: int) -> None:
        self._left = times

    def __call__(self) -> BaseException | None:
        self._left -= 1
        return Stopped() if self._left == 0 else None


def overrides(name: str) -> list[str]:
    special = RECIPES[name]
    removed = {item[1:] for item in special if item.startswith("~")}
    kept = [item for item in SMALL if item.partition("=")[0] not in removed]
    return kept + [item for item in special if not item.startswith("~")]


@functools.cache
def composed(name: str) -> tuple[Any, Trainer, build.Sizes]:
    cfg, _ = compose_train(overrides(name))
    trainer = build.trainer(cfg)
    return cfg, trainer, build.Sizes(build.dataset(cfg).splits(stream_seed(0, "draw")), trainer)


def train(folder: Path, name: str, keeper: Keeper | None = None) -> dict[str, Any]:
    """Train from the seed or the keeper's checkpoint; return the history and final state."""
    cfg, trainer, sizes = composed(name)
    work = build.work(cfg, sizes, build.model(cfg, sizes), torch.device("cpu"))
    history = History(folder / "history.jsonl")
    if isinstance(keeper, Checkpoints):
        history.cut(keeper.find(len(history)))
    with drawing_from(0, "model"):
        selection = trainer.fit(work, history, generator(0, "batches"), keeper)
    rows = [(row["step"], row["metrics"]) for row in read_rows(folder / "history.jsonl")]
    left = {"rows": rows, "best": selection.state_dict(), "model": work.model.state_dict()}
    return left | {"loss": work.loss.state_dict()}


def checkpoints(folder: Path, stop_after: int | None = None, every: str = "1 step") -> Checkpoints:
    stop = {} if stop_after is None else {"stop": StopAfter(stop_after)}
    return Checkpoints(folder, IDENTITY, Cadence.parse(every), **stop)


def assert_same(found: Any, expected: Any) -> None:
    """Bit-identical, with NaN equal to NaN."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    else:
        assert repr(found) == repr(expected)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return {name: train(tmp_path_factory.mktemp(name), name) for name in RECIPES}


# In the warmup, at its end, in the blend, between epochs, in the main phase or its last step.
@pytest.mark.parametrize("stop_after", [3, STEPS + 1, STEPS + 5, 2 * STEPS + 2, 4 * STEPS + 2])
@pytest.mark.parametrize("name", RECIPES)
def test_a_stopped_run_resumes_to_the_same_bits(tmp_path, whole, name, stop_after) -> None:
    if stop_after > len(whole[name]["rows"]) * (STEPS + 1):
        stop_after = len(whole[name]["rows"]) * (STEPS + 1)
    with pytest.raises(Stopped):
        train(tmp_path, name, checkpoints(tmp_path, stop_after))
    assert_same(train(tmp_path, name, checkpoints(tmp_path)), whole[name])


def test_a_run_may_be_stopped_many_times(tmp_path, whole) -> None:
    for _ in range(4):
        with pytest.raises(Stopped):
            train(tmp_path, "blend", checkpoints(tmp_path, 7, every="5 steps"))
    assert_same(train(tmp_path, "blend", checkpoints(tmp_path)), whole["blend"])


def test_rows_after_the_checkpoint_are_trained_again(tmp_path, whole) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, "blend", checkpoints(tmp_path, 2 * STEPS + 4))
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 2, "time": 1, "metrics": {"val/aucpr": 9.0}}\n{"step": 3, "ti')
    assert_same(train(tmp_path, "blend", checkpoints(tmp_path)), whole["blend"])


def _flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _make_foreign(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save(content | {"code": "other"}, path)


def _make_a_program(path: Path) -> None:
    torch.save({"run": copy.deepcopy}, path)


def _too_far(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save(content | {"history": 99}, path)


DAMAGE = {
    "empty": (lambda path: path.write_bytes(b""), "cannot be read: File is not a zip file"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-40]), "cannot be read"),
    "flipped": (_flip_a_byte, "the checksum of"),
    "foreign": (_make_foreign, "it belongs to a run with different code"),
    "program": (_make_a_program, "Weights only load failed"),
    "ahead": (_too_far, "it covers 99 history rows, but there are 2"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_bad_checkpoint_is_refused_and_the_previous_one_used(
    tmp_path, whole, caplog, damage
) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, "blend", checkpoints(tmp_path, 2 * STEPS + 5))
    spoil, reason = DAMAGE[damage]
    spoil(tmp_path / LAST)
    assert_same(train(tmp_path, "blend", checkpoints(tmp_path)), whole["blend"])
    said = [r.getMessage() for r in caplog.records if "last.pt is not used" in r.getMessage()]
    assert len(said) == 1
    assert reason in said[0]
    assert "\n" not in said[0]


def test_without_a_good_checkpoint_training_starts_over(tmp_path, whole) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, "blend", checkpoints(tmp_path, 2 * STEPS + 5))
    for name in (LAST, PREVIOUS):
        (tmp_path / name).write_bytes(b"PK")
    assert_same(train(tmp_path, "blend", checkpoints(tmp_path)), whole["blend"])


def test_a_kill_between_the_two_renames_leaves_the_previous_checkpoint(tmp_path, whole) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, "blend", checkpoints(tmp_path, 2 * STEPS + 5))
    (tmp_path / LAST).unlink()
    assert_same(train(tmp_path, "blend", checkpoints(tmp_path)), whole["blend"])


def test_a_full_disk_gives_one_warning_and_training_continues(
    tmp_path, whole, caplog, monkeypatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rarelab.training.keeper.torch.save", full)
    assert_same(train(tmp_path, "blend", checkpoints(tmp_path)), whole["blend"])
    said = [r.getMessage() for r in caplog.records if "checkpoint" in r.getMessage()]
    assert len(said) == 1
    assert "No space left" in said[0]


def test_non_finite_weights_are_not_checkpointed(tmp_path) -> None:
    model = torch.nn.Linear(1, 1)
    work = type("Work", (), {"model": model})()
    course = Course(work, Selection("any", None), History(tmp_path / "h"), torch.Generator())
    assert course.finite
    torch.nn.init.constant_(model.weight, float("nan"))
    checkpoints(tmp_path).between_steps(course)
    assert not (tmp_path / LAST).exists()


@pytest.mark.parametrize("text", ["", "2", "0 epochs", "epochs", "-1 steps", "1.5 epochs", "never"])
def test_an_invalid_cadence_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected auto"):
        Cadence.parse(text)


def test_the_cadence_is_not_part_of_the_signature() -> None:
    same, _ = compose_train(["trainer.checkpoint_every=9 steps", "trainer.resume=never"])
    assert signature(same) == signature(compose_train([])[0])
    other, _ = compose_train(["trainer.batch_size=99"])
    assert signature(other) != signature(same)
