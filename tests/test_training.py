"""The loop: equal seeds give identical bits, validation selects, and a non-finite loss ends it."""

import copy
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.errors import RequestError
from rarelab.losses import SmoothAPLoss
from rarelab.streams import drawing_from, generator, stream_seed
from rarelab.training import Diverged, Selection, Trainer, Work
from rarelab.training.health import Health, advice
from rarelab.training.history import History, read_rows
from rarelab.training.loop import reaches_main

SMALL = [
    "dataset.n_samples=1500",
    "dataset.pos_rate=0.05",
    "trainer.max_epochs=3",
    "trainer.batch_size=128",
    "schedule.warmup_epochs=1",
    "schedule.blend_epochs=1",
]


def built(*overrides: str) -> tuple[Trainer, Work]:
    cfg, _ = compose_train([*SMALL, *overrides])
    trainer = build.trainer(cfg)
    sizes = build.Sizes(build.dataset(cfg).splits(stream_seed(cfg.seed, "draw")), trainer)
    return trainer, build.work(cfg, sizes, build.model(cfg, sizes), torch.device("cpu"))


def fit(folder: Path, *overrides: str, seed: int = 0) -> tuple[list[dict], Selection, Work]:
    trainer, work = built(*overrides, f"seed={seed}")
    path = folder / "history.jsonl"
    path.unlink(missing_ok=True)
    with drawing_from(seed, "model"):
        selection = trainer.fit(work, History(path), generator(seed, "batches"))
    return [row["metrics"] for row in read_rows(path)], selection, work


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path: Path) -> None:
    first, *_ = fit(tmp_path, "model.dropout=0.2")
    again, *_ = fit(tmp_path, "model.dropout=0.2")
    other, *_ = fit(tmp_path, "model.dropout=0.2", seed=1)
    assert first == again
    assert first != other


def test_another_loss_sees_the_same_rows_weights_and_batch_order() -> None:
    trainer, ranking = built()
    _, plain = built("loss=bce")
    for a, b in zip(ranking.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(ranking.train.x, plain.train.x)
    orders = [
        [batch.y for batch in trainer._batches(work, generator(0, "batches"))]
        for work in (ranking, plain)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*orders, strict=True))


def test_training_does_not_touch_the_global_generator(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    fit(tmp_path, "model.dropout=0.2")
    assert torch.equal(before, torch.random.get_rng_state())


def test_history_rows_have_the_documented_keys(tmp_path: Path) -> None:
    rows, *_ = fit(tmp_path)
    assert [row["train/ap_weight"] for row in rows] == [0.0, 0.25, 0.5]
    for row in rows:
        assert set(row) == {
            "train/loss",
            "train/ap_weight",
            "train/temperature",
            "train/zero_grad_frac",
            "train/no_positive_batch_frac",
            "train/no_positive_pool_frac",
            "val/aucpr",
            "val/recall_at_q/0.005",
        }


def test_no_loss_warns_under_the_trainer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for loss in ("smooth_ap", "recall_at_quantile_iqr", "pauc_at_budget"):
        (tmp_path / loss).mkdir()
        fit(tmp_path / loss, f"loss={loss}", "schedule=warmup_blend", "trainer.max_epochs=7")
    assert [record.message for record in caplog.records] == []


def test_only_epochs_at_the_final_weight_are_selected(tmp_path: Path) -> None:
    _, selection, _ = fit(tmp_path)
    assert selection.best_epoch == 2
    rows, selection, _ = fit(tmp_path, "trainer.select=any")
    values = [row["val/aucpr"] for row in rows]
    assert selection.best_epoch == values.index(max(values))


def test_selection_keeps_the_best_and_patience_starts_over_at_the_switch() -> None:
    model = nn.Linear(1, 1)
    selection = Selection("main", patience=2)
    for epoch, (value, main) in enumerate(
        [(0.9, False), (0.8, False), (0.1, True), (0.3, True), (0.2, True)]
    ):
        nn.init.constant_(model.weight, epoch)
        selection.see(epoch, {"val/aucpr": value}, model, main=main)
        assert not selection.exhausted
    selection.see(5, {"val/aucpr": 0.2}, model, main=True)
    assert selection.exhausted
    assert selection.metrics() == {
        "best/val_aucpr": 0.3,
        "best/epoch": 3.0,
        "best/warmup_val_aucpr": 0.9,
    }
    assert selection.best_state is not None
    assert selection.best_state["weight"].item() == 3


def test_without_a_warmup_there_is_no_best_warmup_metric() -> None:
    selection = Selection("main", patience=None)
    selection.see(0, {"val/aucpr": 0.4}, nn.Linear(1, 1), main=True)
    assert selection.metrics() == {"best/val_aucpr": 0.4, "best/epoch": 0.0}


def test_a_schedule_that_never_reaches_the_main_weight_is_detected_beforehand() -> None:
    trainer, work = built("schedule.warmup_epochs=2")
    before = copy.deepcopy(work.loss.state_dict())
    assert not reaches_main(trainer, work)
    assert reaches_main(*built())
    after = work.loss.state_dict()
    assert before.keys() == after.keys()


class Breaks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return logits.mean() * (float("nan") if self.calls == 3 else 1.0)


def test_a_non_finite_loss_ends_training_with_the_facts(tmp_path: Path) -> None:
    trainer, work = built()
    work.loss = Breaks()
    weights = [p.clone() for p in work.model.parameters()]
    with pytest.raises(Diverged, match=r"nan at epoch 0, step 2 \(batch of 128 rows, \d+ of the"):
        trainer.fit(work, History(tmp_path / "h.jsonl"), generator(0, "batches"))
    assert work.loss.calls == 3
    assert all(p.isfinite().all() for p in work.model.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(weights, work.model.parameters(), strict=True))


def test_gradients_are_clipped(tmp_path: Path) -> None:
    _, _, free = fit(tmp_path, "optimizer=sgd")
    _, _, clipped = fit(tmp_path, "optimizer=sgd", "trainer.gradient_clip_norm=1e-9")
    _, start = built()
    distance = [
        sum(
            (a - b).norm().item()
            for a, b in zip(w.model.parameters(), start.model.parameters(), strict=True)
        )
        for w in (free, clipped)
    ]
    assert distance[1] < 1e-6 < distance[0]


def test_a_batch_size_beyond_the_table_gives_one_batch(tmp_path: Path) -> None:
    rows, _, _ = fit(tmp_path, "trainer.batch_size=2147483647", "trainer.max_epochs=2")
    assert len(rows) == 2
    assert rows[0]["train/no_positive_batch_frac"] == 0


def test_an_epoch_makes_several_passes_for_the_least_number_of_steps(tmp_path: Path) -> None:
    """1 500 * 0.6 rows are 8 batches, so 3 epochs are 24 steps."""
    once, _, _ = fit(tmp_path)
    enough, _, _ = fit(tmp_path, "trainer.min_steps=24")
    assert enough == once
    trainer, work = built("trainer.min_steps=25")
    assert (trainer.passes(900), trainer.steps_per_epoch(900)) == (2, 16)
    batches = list(trainer._batches(work, generator(0, "batches")))
    assert len(batches) == 16
    seen = torch.cat([batch.rows for batch in batches]).bincount()
    assert seen.tolist() == [2] * 900
    resumed = list(trainer._batches(work, generator(0, "batches"), done=9))
    assert torch.equal(resumed[0].rows, batches[9].rows)
    rows, _, _ = fit(tmp_path, "trainer.min_steps=25")
    assert len(rows) == 3 and rows[-1]["train/loss"] != once[-1]["train/loss"]
    # A refit ends after the best epoch, and its epochs are as long as the run's.
    trainer, work = built("trainer.min_steps=25")
    history = History(tmp_path / "first.jsonl")
    trainer.fit(work, history, generator(0, "batches"), epochs=2)
    kept = read_rows(tmp_path / "first.jsonl")
    assert [row["metrics"]["train/loss"] for row in kept] == [r["train/loss"] for r in rows[:2]]


def test_the_learning_rate_follows_its_schedule(tmp_path: Path) -> None:
    _, _, work = fit(tmp_path, "lr_schedule=cosine")
    assert work.optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


def test_a_half_precision_forward_pass_trains(tmp_path: Path) -> None:
    rows, *_ = fit(tmp_path, "trainer.precision=bf16")
    assert all(row["train/loss"] < 10 for row in rows)


def test_health_counts_dead_gradients_and_missing_positives() -> None:
    health = Health()
    yes, no = torch.tensor(True), torch.tensor(False)
    health.step(torch.zeros(4, 1), no, yes)
    health.step(torch.full((4, 1), 1e-7), no, yes)
    health.step(torch.ones(4, 1), yes, no)
    metrics = health.metrics()
    assert metrics["train/zero_grad_frac"] == pytest.approx(2 / 3)
    assert metrics["train/no_positive_batch_frac"] == pytest.approx(2 / 3)
    assert metrics["train/no_positive_pool_frac"] == pytest.approx(1 / 3)
    assert [line.split(" ")[0] for line in advice(metrics)] == [
        "train/zero_grad_frac",
        "train/no_positive_batch_frac",
    ]


def test_advice_names_keys_that_exist() -> None:
    shares = ("zero_grad_frac", "no_positive_batch_frac", "no_positive_pool_frac")
    lines = advice({f"train/{share}": 0.51 for share in shares})
    assert not advice({f"train/{share}": 0.5 for share in shares})
    keys = [set(re.findall(r"\b(?:loss|schedule|trainer|sampler)[.=]\w+", line)) for line in lines]
    temperature, batch, pool = keys
    assert temperature == {"loss.temperature", "schedule.temp_end", "loss.temperature_unit"}
    assert batch == {"sampler=stratified", "trainer.batch_size"}
    assert pool == {"loss.queue_size", "sampler=stratified", "trainer.batch_size"}
    cfg, _ = compose_train(["sampler=stratified"])
    for key in temperature | batch | pool:
        assert OmegaConf.select(cfg, key.split("=")[0]) is not None, key


def test_a_pool_remembers_positives_that_the_batch_lacks(tmp_path: Path) -> None:
    rows, *_ = fit(
        tmp_path, "dataset.pos_rate=0.01", "trainer.batch_size=16", "loss.queue_size=1024"
    )
    assert rows[-1]["train/no_positive_batch_frac"] > 0.5
    assert rows[-1]["train/no_positive_pool_frac"] < 0.2


@pytest.mark.parametrize(
    ("overrides", "answer"),
    [
        (["loss=cross_entropy"], "loss: "),
        (["loss.reduction=none", "schedule=constant"], "loss.reduction: training needs one number"),
        (["dataset=longtail_toy", "loss=bce"], "loss: BinaryCrossEntropy cannot train"),
        (["trainer.device=tpu"], "trainer.device=tpu: not available here"),
        (["model=gru"], "model: GRU takes sequences"),
        (["dataset=sequence_toy"], "model: MLP takes rows"),
    ],
)
def test_an_incompatible_request_is_refused_before_training(
    overrides: list[str], answer: str
) -> None:
    with pytest.raises(RequestError, match="(?s).*" + answer.replace("(", r"\(")):
        cfg, _ = compose_train(overrides)
        trainer = build.trainer(cfg)
        sizes = build.Sizes(build.dataset(cfg).splits(0), trainer)
        build.work(cfg, sizes, build.model(cfg, sizes), trainer.torch_device())


def test_the_data_fills_in_what_the_configs_leave_open() -> None:
    _, work = built("loss=weighted_bce")
    labels = work.train.labels()
    assert work.loss.pos_weight == pytest.approx(((labels == 0).sum() / (labels == 1).sum()).item())
    _, work = built()
    assert isinstance(work.loss.main_loss, SmoothAPLoss)
    assert work.loss.temp_decay_steps == 2 * 8  # 900 training rows at batch 128, two epochs left
