"""Every configured loss, on every kind of task, trains or is refused up front with a reason."""

import functools
import importlib.util
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from cases import CASES, covered
from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.data.splits import Splits
from rarelab.errors import RequestError
from rarelab.paths import config_root
from rarelab.streams import drawing_from, generator
from rarelab.training.history import History, read_rows

LEAVES = sorted((config_root() / "conf" / "loss").glob("*.yaml"))
TASKS = {
    "binary": ["dataset=toy", "dataset.n_samples=600", "dataset.pos_rate=0.1"],
    "multi-class": ["dataset=longtail_toy", "dataset.n_samples=1300"],
    "sequence": ["dataset=sequence_toy", "dataset.n_sequences=120", "model=gru"],
}
ONE_LOGIT = r"cannot train on the multiclass data set .*expected \[N, 1\]"
REFUSED = {
    ("bce", "multi-class"): ONE_LOGIT,
    ("weighted_bce", "multi-class"): ONE_LOGIT,
    ("hard_negative_bce", "multi-class"): ONE_LOGIT,
    ("sigmoid_focal", "multi-class"): r"multiclass .*every logit needs its own.*SoftmaxFocalLoss",
    ("soap", "multi-class"): "expected 1, since APLoss is binary",
    ("cross_entropy", "binary"): "expected at least 2 .one logit: BinaryCrossEntropy",
    ("cross_entropy", "sequence"): "expected at least 2 .one logit: BinaryCrossEntropy",
    ("softmax_focal", "binary"): "C >= 2 .one logit: SigmoidFocalLoss",
    ("softmax_focal", "sequence"): "C >= 2 .one logit: SigmoidFocalLoss",
}
"""Invalid combinations, with a pattern of the error. All other combinations must train."""


@functools.cache
def task(name: str) -> tuple[DictConfig, Splits]:
    short = ["trainer.max_epochs=2", "trainer.batch_size=64"]
    short += ["schedule.warmup_epochs=1", "schedule.blend_epochs=0"]
    cfg, _ = compose_train([*TASKS[name], *short])
    return cfg, build.dataset(cfg).splits(0)


def expected_refusal(loss: str, name: str) -> str | None:
    if loss == "soap" and name != "multi-class" and importlib.util.find_spec("libauc") is None:
        return r"pip install 'rarelab\[libauc\]'"
    return REFUSED.get((loss, name))


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.stem)
def test_a_loss_trains_or_is_refused_with_a_reason(leaf: Path, name: str, tmp_path: Path) -> None:
    composed, splits = task(name)
    cfg = composed.copy()
    cfg.loss = OmegaConf.load(leaf)
    build.check(cfg)
    sizes = build.Sizes(splits, build.trainer(cfg), build.sampler(cfg))
    model = build.model(cfg, sizes)
    assert isinstance(model, torch.nn.Module)
    before = [p.detach().clone() for p in model.parameters()]
    refusal = expected_refusal(leaf.stem, name)
    if refusal is not None:
        with pytest.raises(RequestError, match=refusal) as caught:
            build.work(cfg, sizes, model, torch.device("cpu"))
        assert str(caught.value).startswith("loss")
        assert "\n" not in str(caught.value)
        return
    work = build.work(cfg, sizes, model, torch.device("cpu"))
    with drawing_from(0, "model"):
        sizes.trainer.fit(work, History(tmp_path / "history.jsonl"), generator(0, "batches"))
    losses = [row["metrics"]["train/loss"] for row in read_rows(tmp_path / "history.jsonl")]
    assert len(losses) == 2
    assert torch.tensor(losses).isfinite().all()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_every_configured_loss_is_covered_by_the_contract_tests() -> None:
    targets = {OmegaConf.load(leaf)["_target_"].rpartition(".")[2] for leaf in LEAVES}
    assert targets <= {covered(case) for case in CASES}
    assert len({case.name for case in CASES}) == len(CASES) >= 26


def test_the_refusals_name_configured_losses() -> None:
    names = {leaf.stem for leaf in LEAVES}
    assert len(names) >= 15
    assert {loss for loss, _ in REFUSED} <= names
