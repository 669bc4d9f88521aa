"""Throughout training on ``toy``, the kernels' gradients match those of the plain formula."""

import copy
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pytest
import torch
from torch import Tensor, nn

from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.functional.smooth_ap import PATHS, smooth_ap
from rarelab.losses import SmoothAPLoss
from rarelab.streams import drawing_from, generator, stream_seed
from rarelab.training import Trainer, Work
from rarelab.training.history import History, read_rows

EVERY = 20  # steps


def plain_smooth_ap(scores: Tensor, positives: Tensor, tau: float) -> Tensor:
    """Brown et al., eq. 6 and 7, over all pairs, differentiated by torch's autograd."""
    step = torch.sigmoid((scores[None] - scores[positives][:, None]) / tau)
    return ((step[:, positives].sum(1) + 0.5) / (step.sum(1) + 0.5)).mean()


class PlainSmoothAP(nn.Module):
    """The published loss as usually written, with a queue of the last ``queue_size`` rows."""

    def __init__(self, queue_size: int, temperature: float) -> None:
        super().__init__()
        self.queue_size, self.temperature = queue_size, temperature
        self.reset_queue()

    def reset_queue(self) -> None:
        self.scores, self.positives = torch.empty(0), torch.empty(0, dtype=torch.bool)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        scores = torch.cat([logits[:, 0], self.scores])
        positives = torch.cat([targets == 1, self.positives])
        self.scores = scores.detach()[: self.queue_size]
        self.positives = positives[: self.queue_size]
        if not positives.any():
            return logits.sum() * 0.0
        return 1.0 - plain_smooth_ap(scores, positives, self.temperature)


@dataclass
class Moment:
    """The inputs of a step: parameters, batch, temperature, and the queue before it."""

    parameters: dict[str, Tensor]
    x: Tensor
    positives: Tensor
    tau: float
    queue: Tensor


def record(work: Work) -> list[Moment]:
    """Hook a training run to record a moment every ``EVERY`` steps of the ranking loss."""
    moments: list[Moment] = []
    seen: dict = {"steps": 0}
    loss: SmoothAPLoss = work.loss.main_loss  # type: ignore[assignment]

    def note(_: nn.Module, arguments: tuple[Tensor, Tensor]) -> None:
        seen["steps"] += 1
        if seen["steps"] % EVERY:
            return
        logits, targets = arguments
        queue, labels = loss.pool.ring.read(like=logits)
        moments.append(
            Moment(
                copy.deepcopy(work.model.state_dict()),
                seen["x"],
                torch.cat([targets, labels]) == 1,
                loss.temperature,
                queue[0].clone(),
            )
        )

    work.model.register_forward_pre_hook(lambda _, arguments: seen.update(x=arguments[0]))
    loss.register_forward_pre_hook(note)
    return moments


def prepared() -> tuple[Trainer, Work]:
    cfg, _ = compose_train([])  # the defaults: toy, mlp, smooth_ap after a warmup
    trainer = build.trainer(cfg)
    sizes = build.Sizes(build.dataset(cfg).splits(stream_seed(cfg.seed, "draw")), trainer)
    return trainer, build.work(cfg, sizes, build.model(cfg, sizes), torch.device("cpu"))


def final_val_aucpr(trainer: Trainer, work: Work, path: Path) -> float:
    """Mean validation AUCPR of the last three epochs; every run starts from the same state.

    A single epoch's value rests on 30 positives and moves by .02 if a sum changes in its last bit.
    """
    with drawing_from(0, "model"):
        trainer.fit(work, History(path), generator(0, "batches"))
    return mean(row["metrics"]["val/aucpr"] for row in read_rows(path)[-3:])


def gradients(model: nn.Module, value: Tensor) -> Tensor:
    found = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
    return torch.cat([each.flatten() for each in found])


def assert_equal_gradients(model: nn.Module, moment: Moment) -> None:
    model.load_state_dict(moment.parameters)
    model.train()
    logits = model(moment.x)[:, 0]
    scores = torch.cat([logits, moment.queue])
    value = plain_smooth_ap(scores.double(), moment.positives, moment.tau)
    expected = gradients(model, value)
    allowed = 1e-5 * expected.abs().max() + 1e-12 / moment.tau
    assert expected.any()
    for path in PATHS:
        found = smooth_ap(scores.detach(), moment.positives, tau=moment.tau, path=path, live=logits)
        assert abs(found - value) < 1e-6
        assert (gradients(model, found) - expected).abs().max() <= allowed, path


@pytest.mark.slow
def test_training_matches_the_plain_formula_in_gradients_and_result(tmp_path: Path) -> None:
    trainer, work = prepared()
    moments = record(work)
    ours = final_val_aucpr(trainer, work, tmp_path / "ours.jsonl")
    assert len(moments) >= 25
    assert moments[-1].tau < moments[0].tau
    model = copy.deepcopy(work.model)
    for moment in moments:
        assert_equal_gradients(model, moment)

    trainer, other = prepared()
    loss: SmoothAPLoss = other.loss.main_loss  # type: ignore[assignment]
    other.loss.main_loss = PlainSmoothAP(loss.queue_size, loss.temperature)
    plain = final_val_aucpr(trainer, other, tmp_path / "plain.jsonl")
    assert isinstance(work.loss.main_loss, SmoothAPLoss)
    assert abs(ours - plain) < 0.03
    assert min(ours, plain) > 0.1
