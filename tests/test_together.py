"""Runs trained as one: losses, networks and whole trainings equal those of each run alone."""

import copy
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from cases import CASES, Case
from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.config.joint import joints, prepared_together, with_values
from rarelab.losses import (
    BinaryCrossEntropy,
    LossWarmupWrapper,
    RecallAtQuantileLoss,
    SmoothAPLoss,
)
from rarelab.losses.together import LossesTogether
from rarelab.models import MLP, Linear, TabM
from rarelab.models.stacked import Stacked, can_be_stacked
from rarelab.streams import drawing_from, generator, stream_seed
from rarelab.training import Diverged
from rarelab.training.history import History, read_rows
from rarelab.training.selection import Selection
from rarelab.training.together import Ended, fit_together

K = 4
SMALL = [
    *("dataset=toy", "dataset.n_samples=1200", "dataset.pos_rate=0.05", "trainer.max_epochs=4"),
    *("trainer.batch_size=128", "schedule.warmup_epochs=1", "schedule.blend_epochs=1"),
    *("model=mlp", "model.hidden=[16]"),
]


def batch(case: Case, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and targets of K runs, each with rows of its own, and weights."""
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(K, 32, case.width, generator=draw)
    targets = torch.randint(0, max(2, case.width), (K, 32), generator=draw)
    targets[:, : max(2, case.width)] = torch.arange(max(2, case.width))
    return logits, targets, torch.rand(K, 32, generator=draw)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_losses_and_gradients_are_those_of_each_run_alone(case: Case, weighted: bool) -> None:
    """For three batches, as a queue needs; the state that is left is the same too."""
    if weighted and not case.takes_weights:
        pytest.skip("takes no weights")
    apart = [case.make() for _ in range(K)]
    together = LossesTogether(copy.deepcopy(apart))
    for step in range(3):
        logits, y, weight = batch(case, step)
        found_at, alone_at = (logits.clone().requires_grad_() for _ in range(2))
        found = together(found_at, y, weight if weighted else None)
        own = [{"sample_weight": w} if weighted else {} for w in weight]
        alone = [
            loss(scores, labels, **kept)
            for loss, scores, labels, kept in zip(apart, alone_at, y, own, strict=True)
        ]
        torch.testing.assert_close(found, torch.stack(alone))
        scale = torch.arange(1.0, K + 1)  # each run's gradient on its own scale
        (found * scale).sum().backward()
        (torch.stack(alone) * scale).sum().backward()
        torch.testing.assert_close(found_at.grad, alone_at.grad)
    for loss, expected in zip(together.losses, apart, strict=True):
        states = loss.state_dict(), expected.state_dict()
        for (name, value), other in zip(states[0].items(), states[1].values(), strict=True):
            if isinstance(value, Tensor):
                torch.testing.assert_close(value, other, msg=name)
            elif "generator" not in value:
                assert str(value) == str(other), name


def test_a_run_without_a_positive_or_with_a_nan_does_not_touch_the_others() -> None:
    y = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    logits = torch.randn(3, 4, 1, generator=torch.Generator().manual_seed(0))
    logits[2, 3] = torch.nan
    for make in (lambda: SmoothAPLoss(1), lambda: RecallAtQuantileLoss(1)):
        at = logits.clone().requires_grad_()
        losses = LossesTogether([make() for _ in range(3)])
        found = losses(at, y)
        expected = make()(logits[0], y[0])
        torch.testing.assert_close(found[0], expected)
        assert found[1] == 0 and found[2].isnan()
        found[0].backward()
        assert at.grad is not None
        assert at.grad[0].abs().sum() > 0 and not at.grad[1].any()
        has_positive = [loss.pool_has_positive.tolist() for loss in losses.losses]  # type: ignore
        assert has_positive == [[True], [False], [True]]


def test_runs_may_differ_in_temperature_and_in_the_weight_of_the_main_loss() -> None:
    def make(temperature: float, weight: float) -> nn.Module:
        main = SmoothAPLoss(1, queue_size=16)
        loss = LossWarmupWrapper(
            *(BinaryCrossEntropy(), main, 0, temperature, temperature), final_main_weight=weight
        )
        loss.on_train_epoch_start(0)
        loss.on_train_batch_start(0)
        return loss

    settings = [(0.1, 0.5), (0.3, 0.5), (0.1, 0.25), (0.2, 1.0)]
    apart = [make(*own) for own in settings]
    together = LossesTogether(copy.deepcopy(apart))
    for step in range(2):
        logits, y, _ = batch(next(c for c in CASES if c.width == 1), step)
        alone = [loss(s, t) for loss, s, t in zip(apart, logits, y, strict=True)]
        torch.testing.assert_close(together(logits, y), torch.stack(alone))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("embedded", [None, "piecewise_linear", "periodic"])
def test_stacked_networks_give_the_logits_and_gradients_of_each(
    dropout: float, embedded: str | None
) -> None:
    edges = {"bin_edges": [[-1.0, 0.0, 1.0], [], [-2.0, 0.5, 2.0]]} if embedded else {}
    options = {"dropout": dropout, "num_embeddings": embedded, **edges}
    apart = []
    for seed in range(K):
        torch.manual_seed(seed)
        apart.append(MLP(3, 1, hidden=[8, 8], **options).train())
    members = copy.deepcopy(apart)
    stack = Stacked(members, [generator(seed, "model") for seed in range(K)]).train()
    x = torch.randn(K, 20, 3)
    found = stack(x)
    alone = []
    for seed, network in enumerate(apart):
        with drawing_from(seed, "model"):
            alone.append(network(x[seed]))
    torch.testing.assert_close(found, torch.stack(alone))
    found.square().sum().backward()
    torch.stack(alone).square().sum().backward()
    for name, weight in zip(stack.names, stack.weights, strict=True):
        expected = [network.get_parameter(name).grad for network in apart]
        torch.testing.assert_close(weight.grad, torch.stack(expected), msg=name)


def test_a_network_is_a_view_of_the_stack_and_its_state_a_copy() -> None:
    networks = [Linear(3, 1) for _ in range(K)]
    stack = Stacked(networks, [torch.Generator() for _ in networks])
    before = networks[2].state_dict()
    with torch.no_grad():
        stack.weights[0].add_(1)
    assert torch.equal(networks[2].head.weight, stack.weights[0][2])
    torch.testing.assert_close(networks[2].state_dict()["head.weight"], before["head.weight"] + 1)
    assert before["head.weight"].untyped_storage().nbytes() == 3 * 4
    networks[1].load_state_dict(before)
    assert torch.equal(stack.weights[0][1], before["head.weight"])


def test_networks_of_different_shapes_are_not_stacked() -> None:
    with pytest.raises(ValueError, match="differ in the shapes"):
        Stacked([Linear(3, 1), Linear(4, 1)], [torch.Generator(), torch.Generator()])
    assert can_be_stacked(MLP) and can_be_stacked(Linear) and not can_be_stacked(TabM)


def composed(*overrides: str) -> DictConfig:
    cfg, _ = compose_train([*SMALL, *overrides])
    return cfg


def trained_alone(cfg: DictConfig, path: Path) -> Selection | Diverged:
    """A run's history in ``path``, and its selection."""
    trainer, ready = build.trainer(cfg), build.prepared(cfg)
    try:
        with drawing_from(cfg.seed, "model"):
            return trainer.fit(ready.work, History(path), generator(cfg.seed, "batches"))
    except Diverged as error:
        return error


def trained_together(cfgs: list[DictConfig], folder: Path) -> list[Ended]:
    folder.mkdir()
    ready = prepared_together(cfgs)
    ((group, joint),) = joints(cfgs, ready)
    assert group == list(range(len(cfgs)))
    histories = [History(folder / f"{i}.jsonl") for i in group]
    batches = [generator(cfg.seed, "batches") for cfg in cfgs]
    return fit_together(build.trainer(cfgs[0]), joint, histories, batches)


def same_history(one: Path, other: Path, tolerance: float = 1e-3) -> None:
    rows, expected = read_rows(one), read_rows(other)
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, like in zip(rows, expected, strict=True):
        assert row["metrics"].keys() == like["metrics"].keys()
        assert row["metrics"] == pytest.approx(like["metrics"], abs=tolerance, nan_ok=True)


TRAININGS = {
    "bce": ["loss=bce"],
    "smooth_ap": ["loss=smooth_ap", "loss.queue_size=300", "trainer.gradient_clip_norm=0.5"],
    "iqr": ["loss=recall_at_quantile_iqr", "optimizer=adamw", "lr_schedule=cosine"],
    "stratified": ["loss=weighted_bce", "sampler=stratified", "optimizer=sgd"],
    "dropout": ["loss=sigmoid_focal", "model.dropout=0.2", "trainer.min_steps=60"],
    "linear": ["model=linear", "loss=hard_negative_bce", "~model.hidden"],
    "multiclass": ["dataset=longtail_toy", "dataset.n_classes=3", "loss=smooth_ap"],
}


@pytest.mark.parametrize("kind", TRAININGS)
@pytest.mark.parametrize("runs", [1, 4])
def test_runs_together_have_the_histories_and_weights_of_each_alone(
    kind: str, runs: int, tmp_path: Path
) -> None:
    given = TRAININGS[kind]
    if kind == "linear":
        base, _ = compose_train([*SMALL[:-2], *given[:-1]])
    elif kind == "multiclass":
        base, _ = compose_train([*SMALL[3:], *given, "dataset.n_samples=1500"])
    else:
        base = composed(*given)
    cfgs = [with_values(base, {"seed": seed}) for seed in range(runs)]
    found = trained_together(cfgs, tmp_path / "together")
    for i, cfg in enumerate(cfgs):
        alone, one = trained_alone(cfg, tmp_path / f"{i}.jsonl"), found[i]
        same_history(tmp_path / "together" / f"{i}.jsonl", tmp_path / f"{i}.jsonl")
        assert isinstance(one, Selection) and isinstance(alone, Selection)
        assert one.best_epoch == alone.best_epoch
        assert one.best_state and alone.best_state
        for name, value in alone.best_state.items():
            torch.testing.assert_close(one.best_state[name], value, atol=1e-3, rtol=1e-3)
    if runs > 1:
        first, second = (found[i].best_state for i in (0, 1))  # type: ignore[union-attr]
        assert not torch.equal(first["head.weight"], second["head.weight"])


def test_runs_with_their_own_learning_rates_and_weight_decays(tmp_path: Path) -> None:
    base = composed("loss=bce", "optimizer=adamw")
    values = [
        {"seed": 0, "optimizer.lr": 0.001, "optimizer.weight_decay": 0.0},
        {"seed": 0, "optimizer.lr": 0.01, "optimizer.weight_decay": 0.0},
        {"seed": 1, "optimizer.lr": 0.01, "optimizer.weight_decay": 0.0},
        {"seed": 1, "optimizer.lr": 0.01, "optimizer.weight_decay": 0.5},
    ]
    cfgs = [with_values(base, own) for own in values]
    trained_together(cfgs, tmp_path / "together")
    for i, cfg in enumerate(cfgs):
        trained_alone(cfg, tmp_path / f"{i}.jsonl")
        same_history(tmp_path / "together" / f"{i}.jsonl", tmp_path / f"{i}.jsonl")


def test_a_run_that_diverges_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    base = composed("loss=bce", "optimizer=sgd", "optimizer.lr=0.05")
    values = [{"seed": 0, "optimizer.lr": lr} for lr in (0.05, 1e30, 0.01)]
    cfgs = [with_values(base, own) for own in values]
    found = trained_together(cfgs, tmp_path / "together")
    assert isinstance(found[1], Diverged) and "lower optimizer.lr" in str(found[1])
    alone = trained_alone(cfgs[1], tmp_path / "1.jsonl")
    assert (
        str(alone).split(" (")[0].partition("at epoch")[2]
        == (str(found[1]).split(" (")[0].partition("at epoch")[2])
    )
    for i in (0, 2):
        trained_alone(cfgs[i], tmp_path / f"{i}.jsonl")
        same_history(tmp_path / "together" / f"{i}.jsonl", tmp_path / f"{i}.jsonl")


def test_each_run_stops_early_by_its_own_validation(tmp_path: Path) -> None:
    base = composed("loss=bce", "trainer.patience=1", "trainer.max_epochs=12", "optimizer.lr=0.02")
    cfgs = [with_values(base, {"seed": seed}) for seed in range(4)]
    trained_together(cfgs, tmp_path / "together")
    lengths = []
    for i, cfg in enumerate(cfgs):
        trained_alone(cfg, tmp_path / f"{i}.jsonl")
        same_history(tmp_path / "together" / f"{i}.jsonl", tmp_path / f"{i}.jsonl", 0.01)
        lengths.append(len(read_rows(tmp_path / f"{i}.jsonl")))
    assert len(set(lengths)) > 1 and max(lengths) < 12


def test_a_signal_ends_a_batch_between_two_steps(tmp_path: Path) -> None:
    cfgs = [with_values(composed("loss=bce"), {"seed": seed}) for seed in range(2)]
    ((_, joint),) = joints(cfgs, prepared_together(cfgs))
    histories = [History(tmp_path / f"{i}.jsonl") for i in range(2)]
    polls = iter([None, None, KeyboardInterrupt()])
    batches = [generator(seed, "batches") for seed in range(2)]
    with pytest.raises(KeyboardInterrupt):
        fit_together(build.trainer(cfgs[0]), joint, histories, batches, lambda: next(polls))
    assert not (tmp_path / "0.jsonl").exists()


def test_data_that_no_seed_draws_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rarelab.data.file import TableFile

    lines = [f"{i % 7},{i % 11},{int(i % 13 == 0)}" for i in range(600)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *lines]), encoding="utf-8")
    cfg, _ = compose_train(
        ["dataset=file", f"dataset.path={tmp_path / 't.csv'}", "dataset.target=y", "loss=bce"]
    )
    reads: list[int] = []
    real = TableFile.splits
    monkeypatch.setattr(
        TableFile, "splits", lambda self, seed: reads.append(seed) or real(self, seed)
    )
    ready = prepared_together([with_values(cfg, {"seed": seed}) for seed in range(3)])
    assert len(reads) == 1
    assert ready[0].sizes.splits is ready[2].sizes.splits
    assert stream_seed(0, "init") != stream_seed(2, "init")
    weights = [one.model.head.weight for one in ready]  # type: ignore[union-attr]
    assert not torch.equal(weights[0], weights[2])
