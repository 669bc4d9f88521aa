"""Boosting on any loss: gradients, the objective alone, and models grown in rounds."""

import builtins
import copy
import pickle
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import pytest
import torch
import xgboost
from sklearn.base import clone
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import rarelab
from cases import CASES
from rarelab import losses
from rarelab.boosting import (
    CatBoost,
    CatBoostYetiRank,
    LightGBM,
    LightGBMLambdaRank,
    LightGBMLogLoss,
    XGBoost,
    XGBoostLogLoss,
    XGBoostRanking,
    objective,
    prior,
)
from rarelab.boosting.gradient import BLOCK, FLOOR, TINY, Share, Slope, Slopes, shares
from rarelab.data.splits import Table
from rarelab.errors import RarelabError, RequestError
from rarelab.functional import smooth_ap
from rarelab.functional.threads import limited_threads
from rarelab.predict.graph import IR_VERSION
from rarelab.training import Trainer
from rarelab.training.history import History, read_rows
from rarelab.training.keeper import Cadence, Checkpoints, Keeper
from rarelab.training.loop import Diverged
from rarelab.training.rounds import RoundWork, fit_rounds
from test_resume import IDENTITY, StopAfter, Stopped, assert_same

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BOTH = [LightGBM, LightGBMLogLoss]
PAIRS = [(LightGBM, LightGBMLogLoss, 1e-6), (XGBoost, XGBoostLogLoss, 1e-5)]
SMALL = {
    "lightgbm": {"num_leaves": 7, "min_data_in_leaf": 10, "lambda_l2": 1.0},
    "xgboost": {"max_depth": 3, "reg_lambda": 1.0},
}
SAMPLING = {
    "lightgbm": ("feature_fraction", "bagging_fraction"),
    "xgboost": ("colsample_bytree", "subsample"),
}


def slope(
    blend: Sequence[Share],
    scores: torch.Tensor,
    labels: torch.Tensor,
    weight: torch.Tensor | None = None,
) -> Slope:
    """A single look at a table."""
    return Slopes(labels, weight).at(scores, blend)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other are many times slower where the machine is busy."""
    with limited_threads(1):
        yield


def table(rows: int = 1500, classes: int = 2, seed: int = 0, weighted: bool = False) -> Table:
    """Rows whose class depends on the first three of six columns, the last class being rare."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 6, generator=generator)
    signal = x[:, 0] + 0.6 * x[:, 1] * x[:, 2] + 0.5 * torch.randn(rows, generator=generator)
    edges = torch.tensor([1.8] if classes == 2 else [0.3, 1.8])
    weight = torch.rand(rows, generator=generator) + 0.5 if weighted else None
    return Table(x, torch.bucketize(signal, edges), weight)


def booster(cls: type = LightGBM, outputs: int = 1, **options: Any) -> Any:
    return cls(6, outputs, **{"num_iterations": 12, **SMALL[cls.library], **options})


def blended(outputs: int = 1, temperature: float = 0.5) -> losses.LossWarmupWrapper:
    return losses.LossWarmupWrapper(
        losses.plain_loss(outputs),
        losses.SmoothAPLoss(outputs, temperature=temperature),
        warmup_epochs=1,
        blend_epochs=1,
        temp_decay_steps=8,
        final_main_weight=0.5,
    )


def fit(
    folder: Path, model: Any, loss: Any, keeper: Keeper | None = None, **options: Any
) -> tuple[list[dict[str, float]], Any]:
    """Grow the model in epochs of three rounds; the history and the selection."""
    classes = max(2, model.num_outputs)
    train = options.pop("train", table(classes=classes, weighted=True))
    work = RoundWork(model, loss, train, table(500, classes, seed=1), classes - 1, 3, seed=5)
    history = History(folder / "history.jsonl")
    if isinstance(keeper, Checkpoints):
        history.cut(keeper.find(len(history)))
    selection = fit_rounds(Trainer(**options), work, history, keeper)
    return [row["metrics"] for row in read_rows(folder / "history.jsonl")], selection


# The gradient.


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("share", [0.9, 1.0])
def test_the_slope_of_smooth_ap_is_the_published_blend(share: float, weighted: bool) -> None:
    rows = table(300, weighted=weighted)
    s = torch.randn(300, 1, dtype=torch.float64).requires_grad_()
    u = torch.ones(300) if rows.sample_weight is None else rows.sample_weight
    positive = rows.y == 1
    average = smooth_ap(s[:, 0], positive, tau=0.5, weights=None if not weighted else u.double())
    (d,) = torch.autograd.grad(1 - average, s)
    main = losses.SmoothAPLoss(1, temperature=0.5)  # with a queue, which must not matter
    blend = [(1 - share, losses.BinaryCrossEntropy()), (share, main)]
    p = 1 / (1 + (-s.detach()[:, 0]).exp())
    residual, curvature = u * (p - positive.double()), u * p * (1 - p)
    scaled = d[:, 0] * residual.abs().sum() / d.abs().sum()
    for _ in range(2):
        found = slope([b for b in blend if b[0]], s.detach(), rows.y, rows.sample_weight)
        expected = (1 - share) * residual + share * scaled
        assert torch.allclose(found.gradient[:, 0], expected, rtol=1e-9, atol=1e-12)
        least = scaled.abs() if share == 1 else torch.zeros(())
        assert torch.allclose(
            found.curvature[:, 0], curvature.maximum(least).clamp_min(FLOOR), rtol=1e-9
        )
    assert found.value == pytest.approx(
        share * (1 - average.item())
        + (1 - share)
        * losses.BinaryCrossEntropy()(s.detach(), rows.y, sample_weight=rows.sample_weight).item()
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_log_loss_is_what_autograd_makes_of_it(classes: int, weighted: bool) -> None:
    """In blocks, the last one short, and where the sigmoid is flat."""
    rows, outputs = table(2 * BLOCK + 7, classes, weighted=weighted), 1 if classes == 2 else 3
    s = 20 * torch.randn(len(rows.y), outputs, dtype=torch.float64)
    found = slope([(1.0, losses.plain_loss(outputs))], s, rows.y, rows.sample_weight)
    u = torch.ones(len(s), 1) if rows.sample_weight is None else rows.sample_weight[:, None]
    if classes == 2:
        y = rows.y[:, None].double()
        value = torch.nn.functional.binary_cross_entropy_with_logits(s, y, u.double())
        value, p = value * len(s) / u.double().sum(), s.sigmoid()
    else:
        y = torch.nn.functional.one_hot(rows.y).double()
        value, p = -(u * y * s.log_softmax(1)).sum() / u.double().sum(), s.softmax(1)
    assert found.value == pytest.approx(value.item())
    for side in (found.gradient, found.last):
        assert torch.allclose(side, u * (p - y), rtol=1e-9, atol=1e-12)
    scale = 1.0 if classes == 2 else 3 / 2
    assert torch.allclose(found.curvature, (u * p * (1 - p) * scale).clamp_min(TINY), atol=1e-12)


def test_slopes_of_a_table_are_those_of_single_looks() -> None:
    rows = table(300, weighted=True)
    slopes = Slopes(rows.y, rows.sample_weight)
    plain, ranked = losses.BinaryCrossEntropy(), losses.SmoothAPLoss(1, temperature=0.5)
    focal = losses.SigmoidFocalLoss()
    for blend in (
        [(1.0, plain)],
        [(0.3, plain), (0.7, ranked)],
        [(0.3, focal), (0.7, plain)],
        [(1.0, ranked)],
        [(0.4, plain), (0.6, focal)],
    ):
        s = torch.randn(300, 1, dtype=torch.float64)
        found = slopes.at(s, blend)
        parts = [slope([(1.0, loss)], s, rows.y, rows.sample_weight) for _, loss in blend]
        mixed = sum(share * part.gradient for (share, _), part in zip(blend, parts, strict=True))
        assert found.value == pytest.approx(
            sum(share * part.value for (share, _), part in zip(blend, parts, strict=True))
        )
        assert torch.allclose(found.gradient, mixed, rtol=1e-9, atol=1e-12)
        assert torch.allclose(found.last, parts[-1].last, rtol=1e-9, atol=1e-12)


def test_one_thread_and_two_give_the_same_slope_of_a_large_table() -> None:
    rows, found = table(150_000, weighted=True), []
    s = torch.randn(150_000, 1, dtype=torch.float64)
    for threads in (1, 2):
        with limited_threads(threads):
            found.append(slope(shares(blended()), s, rows.y, rows.sample_weight))
            found.append(slope([(1.0, losses.SmoothAPLoss(1, temperature=0.1))], s, rows.y))
    for one, two in (found[::2], found[1::2]):
        assert_same(two._asdict(), one._asdict())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_loss_gives_a_finite_slope_downhill_and_a_positive_curvature(case: Any) -> None:
    loss, (logits, labels) = case.make(), case.batch()
    logits = logits.detach().double() * 20  # also where the sigmoid is flat
    found = slope(shares(loss), logits, labels)
    assert found.gradient.shape == found.curvature.shape == logits.shape
    assert bool(found.gradient.isfinite().all()) and bool((found.curvature >= TINY).all())
    if not case.pooled:
        assert bool(found.gradient.abs().sum() > 0)
        lower = slope(shares(loss), logits - 1e-4 * found.gradient, labels)
        assert lower.value < found.value


def test_a_class_without_rows_is_left_out() -> None:
    scores, labels = torch.randn(40, 3, dtype=torch.float64), torch.arange(40) % 2
    loss = losses.SmoothAPLoss(3, queue_size=0, temperature=0.5)
    found = slope([(0.5, losses.CrossEntropy(3)), (0.5, loss)], scores, labels)
    assert bool(found.gradient.isfinite().all()) and not bool(found.last[:, 2].any())


# The objective alone.


def raw(made: Any, rows: Table, rounds: int = 200, **options: Any) -> np.ndarray:
    weight = None if rows.sample_weight is None else rows.sample_weight.numpy()
    data = lightgbm.Dataset(rows.x.numpy(), label=rows.y.numpy(), weight=weight)
    given = {"verbosity": -1, "num_threads": 1, "num_leaves": 15, "objective": made, **options}
    return lightgbm.train(given, data, num_boost_round=rounds).predict(
        rows.x.numpy(), raw_score=True
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_bce_as_an_objective_is_lightgbms_own_log_loss(weighted: bool) -> None:
    rows = table(weighted=weighted)
    start = prior(rows.y, rows.sample_weight)
    own = raw("binary", rows)
    assert np.ptp(own) > 5
    np.testing.assert_allclose(raw(objective("bce"), rows) + start, own, rtol=0, atol=1e-6)


def test_an_objective_serves_pipelines_and_cross_validation_as_in_the_readme(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # the number of threads that LightGBM starts
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "rarelab.boosting" in block
    ]
    rows = table(400)
    names: dict = {"X": rows.x.numpy(), "y": rows.y.numpy()}
    exec(compile(code, "README.md", "exec"), names)
    assert names["scores"].shape == (5,) and names["scores"].min() > 3 * names["y"].mean()

    model = lightgbm.LGBMClassifier(
        objective=objective("smooth_ap", warmup=5), n_estimators=10, verbosity=-1, n_jobs=1
    )
    piped = make_pipeline(StandardScaler(), model)
    scores = cross_val_score(piped, names["X"], names["y"], scoring="average_precision", cv=3)
    assert (scores > 3 * names["y"].mean()).all()


def test_every_fit_of_an_objective_starts_its_own_warmup() -> None:
    rows, made = table(), objective("smooth_ap", tau=0.5, mix=0.9, warmup=4)
    first = raw(made, rows, 12)
    assert np.array_equal(raw(made, rows, 12), first)
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert repr(again) == repr(made) == "objective('smooth_ap', tau=0.5, mix=0.9, warmup=4)"
        assert np.array_equal(raw(again, rows, 12), first)
    model = lightgbm.LGBMClassifier(objective=made)
    assert repr(clone(model).objective) == repr(made)
    only_warm = raw(objective("bce"), rows, 12)
    assert np.array_equal(raw(objective("smooth_ap", warmup=12), rows, 12), only_warm)
    assert not np.allclose(first, only_warm)


def test_weights_reach_the_objective() -> None:
    rows = table()
    heavy = torch.where(rows.y == 1, 20.0, 1.0)
    for made in (objective("bce"), objective("smooth_ap", warmup=3)):
        plain = lightgbm.LGBMClassifier(objective=made, n_estimators=6, verbosity=-1, n_jobs=1)
        x, y = rows.x.numpy(), rows.y.numpy()
        alone = plain.fit(x, y).predict(x, raw_score=True) + prior(y)
        weighted = clone(plain).fit(x, y, sample_weight=heavy.numpy()).predict(x, raw_score=True)
        assert (weighted + prior(y, heavy)).mean() > alone.mean() + 1
    assert prior([0, 0, 0, 1]) == pytest.approx(-np.log(3))
    assert prior([0, 1], [1, 3]) == pytest.approx(np.log(3))


class Matrix:
    """Data as XGBoost hands it to a custom objective: no weights are an empty list."""

    def __init__(self, labels: np.ndarray) -> None:
        self.get_label = lambda: labels.astype(np.float32)
        self.get_weight = lambda: np.zeros(0, dtype=np.float32)


def test_an_objective_takes_what_either_library_passes() -> None:
    y = table(200).y.numpy()
    scores = np.random.default_rng(0).normal(size=200)
    expected = objective("smooth_ap", warmup=0)(y, scores)
    for shape in ((200,), (200, 1)):
        found = objective("smooth_ap", warmup=0)(scores.reshape(shape), Matrix(y))
        for one, other in zip(found, expected, strict=True):
            assert one.shape == shape and np.allclose(one.ravel(), other)
    made = objective("smooth_ap", warmup=0)
    made(1 - y, scores)
    for one, other in zip(made(y, scores), expected, strict=True):  # labels are looked at each time
        assert np.array_equal(one, other)
    level = objective("bce")(np.full(200, 0.5), Matrix(y))  # the start of xgboost.train
    assert np.allclose(level[0], y.mean() - y)


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (["smoth_ap"], {}, "no loss 'smoth_ap'; did you mean 'smooth_ap'"),
        (["smooth_ap"], {"mix": 0}, r"mix is 0, expected a number in \(0, 1\]"),
        (["smooth_ap"], {"warmup": -1}, "warmup is -1"),
        (["smooth_ap"], {"tau": 0}, "temperature is 0, expected a positive number"),
        (["smooth_ap"], {"quantile": 0.1}, "smooth_ap: there is no 'quantile'; choose from"),
        (["smooth_ap"], {"tua": 0.1}, "smooth_ap: there is no 'tua'; did you mean 'tau'"),
        (["bce"], {"tau": 0.5}, "tau is 0.5, but bce has no temperature"),
        (["bce"], {"mix": 0.5}, "mix is 0.5, but bce is a mean over rows"),
    ],
)
def test_an_objective_refuses(arguments: list[str], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        objective(*arguments, **options)


def test_an_objective_refuses_labels_and_scores_of_more_than_two_classes() -> None:
    with pytest.raises(ValueError, match="labels must be a list of 0 and 1"):
        objective("bce")(np.array([0, 1, 2]), np.zeros(3))
    with pytest.raises(ValueError, match=r"two classes are expected, found scores of shape \(3, 3"):
        objective("bce")(np.array([0, 1, 2]), np.zeros((3, 3)))


# Models grown in rounds.


@pytest.mark.parametrize(("cls", "reference", "within"), PAIRS)
@pytest.mark.parametrize(("outputs", "rounds"), [(1, 200), (3, 40)])
def test_a_custom_log_loss_gives_the_librarys_own_scores(
    tmp_path: Path, cls: type, reference: type, within: float, outputs: int, rounds: int
) -> None:
    scores = []
    for made in (cls, reference):
        model = booster(made, outputs, num_iterations=rounds, early_stopping_round=None)
        (tmp_path / made.__name__).mkdir()
        fit(tmp_path / made.__name__, model, losses.plain_loss(outputs))
        model.keep(rounds)
        scores.append(model.scores(table(500, seed=1).x))
    assert scores[0].shape == (500, outputs) and float(scores[0].std()) > 1
    assert torch.allclose(*scores, rtol=0, atol=within)


@pytest.mark.parametrize(
    ("cls", "outputs", "sampling"),
    [
        *[(LightGBM, 1, 0.5), (LightGBM, 3, 1.0), (LightGBMLogLoss, 1, 0.5)],
        *[(LightGBMLogLoss, 3, 1.0), (LightGBMLambdaRank, 1, 0.5), (XGBoost, 1, 0.5)],
        *[(XGBoost, 3, 0.5), (XGBoostLogLoss, 3, 0.5), (XGBoostRanking, 1, 0.5)],
    ],
)
def test_a_stopped_run_resumes_to_the_same_bits(
    tmp_path: Path, cls: type, outputs: int, sampling: float
) -> None:
    def grown(name: str, keeper: Checkpoints | None = None) -> dict[str, Any]:
        (tmp_path / name).mkdir(exist_ok=True)
        model = booster(cls, outputs, **dict.fromkeys(SAMPLING[cls.library], sampling))
        weighted = cls is not XGBoostRanking
        rows, selection = fit(
            *(tmp_path / name, model, blended(outputs), keeper),
            train=table(classes=max(2, outputs), weighted=weighted),
        )
        state = selection.state_dict()
        model.keep(state["best_state"]["steps"])
        return {"rows": rows, "best": state, "scores": model.scores(table(500, seed=2).x)}

    expected = grown("whole")
    assert len(expected["rows"]) == 12 and len(expected["scores"].unique()) > 50
    for stop_after in (
        2,
        3,
        5,
    ):  # in the warmup; from there at its end; from there in the main part
        folder = tmp_path / "stopped"
        folder.mkdir(exist_ok=True)
        with pytest.raises(Stopped):
            grown("stopped", checkpoints(folder, stop_after))
    assert_same(grown("stopped", checkpoints(folder)), expected)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_last_step_is_the_librarys_own_prediction(classes: int, gaps: bool) -> None:
    rows, outputs = table(classes=classes), 1 if classes == 2 else 3
    seen = table(400, seed=3).x
    for x in (rows.x, seen) if gaps else (seen,):  # unless trained with gaps, it reads them as 0
        x[::7, 0], x[::5, 1], x[3::5, 1] = torch.nan, 0.0, -1e-36
    model = booster(outputs=outputs)
    model.begin(rows, 0)
    for _ in range(5):
        model.grow(lambda s: slope([(1.0, losses.plain_loss(outputs))], s, rows.y))
        own = model._booster.predict(
            seen.numpy(), raw_score=True, start_iteration=model.steps - 1, num_iteration=1
        )
        assert np.array_equal(model.last_step(seen).numpy(), own.reshape(-1, outputs))


@pytest.mark.parametrize("cls", [LightGBM, XGBoost])
def test_one_thread_and_two_give_the_same_bits(tmp_path: Path, cls: type) -> None:
    found = []
    for threads in (1, 2):
        (tmp_path / str(threads)).mkdir()
        model = booster(cls, num_iterations=8)
        with limited_threads(threads):
            rows, _ = fit(tmp_path / str(threads), model, blended())
            model.keep(8)
            found.append((rows, model.scores(table(500, seed=2).x)))
    assert_same(found[1], found[0])


def checkpoints(folder: Path, stop_after: int = 0) -> Checkpoints:
    stop = {"stop": StopAfter(stop_after)} if stop_after else {}
    return Checkpoints(folder, IDENTITY, Cadence.parse("auto"), **stop)


def test_the_schedule_counts_rounds_and_the_best_one_is_at_the_final_weight(
    tmp_path: Path,
) -> None:
    rows, selection = fit(tmp_path, booster(), blended())
    weights = [row["train/ap_weight"] for row in rows]
    assert weights == [0.0] * 3 + [0.25] * 3 + [0.5] * 6
    temperatures = [row["train/temperature"] for row in rows[3:]]
    assert temperatures == sorted(temperatures, reverse=True)
    assert temperatures[0] == 0.05 and temperatures[-1] == pytest.approx(0.005)
    values = [row["val/aucpr"] for row in rows]
    assert selection.best_epoch == 6 + int(np.argmax(values[6:]))
    assert selection.best_warmup_value == max(values[:6])
    assert all(0 <= row["train/zero_grad_frac"] <= 1 for row in rows)
    assert values[-1] > 0.5


def test_growing_stops_early_but_never_before_the_final_weight(tmp_path: Path) -> None:
    noise = Table(table().x, table(seed=9).y)  # nothing to learn, so no round is better for long
    model = booster(num_iterations=60, early_stopping_round=2)
    rows, selection = fit(tmp_path, model, blended(), train=noise)
    assert selection.best_epoch >= 6 and len(rows) == selection.best_epoch + 3 < 60


def test_every_round_is_a_step_between_two_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr(Checkpoints, "_write", lambda _, course: written.append(course.done))
    keeper = Checkpoints(tmp_path, IDENTITY, Cadence.parse("4 steps"))
    fit(tmp_path, booster(), blended(), keeper)
    assert written == [4, 8, 12]  # the third, sixth and ninth end an epoch


def test_a_dead_gradient_is_counted(tmp_path: Path) -> None:
    loss = losses.RecallAtQuantileLoss(1, quantile=0.02, temperature=1e-5)
    rows, _ = fit(tmp_path, booster(num_iterations=3), loss)
    assert rows[-1]["train/zero_grad_frac"] > 0.5


@pytest.mark.parametrize("gap", [7.0, 7.05, 7.08, 7.2])
def test_a_slope_that_underflows_is_no_slope(gap: float) -> None:
    scores = torch.zeros(50_000, 1, dtype=torch.float64)
    labels = torch.zeros(50_000, dtype=torch.int64)
    scores[:10], labels[:10] = -gap, 1
    loss = losses.RecallAtQuantileLoss(1, quantile=0.02, temperature=0.01)
    (steep,) = torch.autograd.grad(loss(leaf := scores.clone().requires_grad_(), labels), leaf)
    found = Slopes(labels).at(scores, [(1.0, loss)])
    assert found.gradient.isfinite().all()
    size = (scores.sigmoid() - labels[:, None]).abs().sum().item()
    scalable = steep.abs().sum() > size / torch.finfo(torch.float64).max
    assert found.gradient.abs().sum().item() == (pytest.approx(size) if scalable else 0)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    class Broken(losses.BinaryCrossEntropy.__base__):
        def forward(self, logits: torch.Tensor, targets: torch.Tensor, **_: Any) -> torch.Tensor:
            return logits.sum() * float("nan")

    with pytest.raises(Diverged, match=r"the loss is nan at round 0 .*lower model.learning_rate"):
        fit(tmp_path, booster(), Broken())


def test_a_run_is_recorded_scored_and_reproduced(home: Path, capsys: pytest.CaptureFixture) -> None:
    from rarelab.runs.reproduce import reproduce

    small = ["dataset.n_samples=2000", "dataset.pos_rate=0.05", "tracking=none"]
    run = rarelab.train(
        [
            *small,
            "model=lightgbm",
            "model.num_iterations=30",
            "trainer.max_epochs=10",
            "loss=smooth_ap",
            "schedule.temp_end=0.3",
        ]
    )
    rows = [
        row for row in read_rows(run.directory / "history.jsonl") if "val/aucpr" in row["metrics"]
    ]
    assert [row["step"] for row in rows] == list(range(len(rows))) and len(rows) == 30
    assert 15 <= run.metrics["best/epoch"] < 30 and run.metrics["test/aucpr"] > 0.3
    log = (run.directory / "train.log").read_text()
    assert capsys.readouterr().out.count("loss.queue_size=1024 has no effect") == 1
    assert "round  3/30  warmup" in log and "round 30/30  main" in log and "round  4/" not in log
    assert reproduce(run.directory.name, home) == 0


def test_an_objective_is_xgboosts_own_log_loss() -> None:
    rows = table(weighted=True)
    x, y, weight = rows.x.numpy(), rows.y.numpy(), rows.sample_weight
    assert weight is not None
    data = xgboost.DMatrix(x, label=y, weight=weight.numpy())
    start = prior(y, weight)
    shared = {"max_depth": 3, "eta": 0.1, "nthread": 1, "verbosity": 0}
    own = {**shared, "objective": "binary:logistic", "base_score": float(1 / (1 + np.exp(-start)))}
    expected = xgboost.train(own, data, 200).predict(data, output_margin=True)
    alone = xgboost.train({**shared, "base_score": 0}, data, 200, obj=objective("bce"))
    found = alone.predict(data, output_margin=True) + start
    assert np.ptp(expected) > 5
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_ranking_references_learn_and_refuse_what_they_cannot_use(tmp_path: Path) -> None:
    for cls in (XGBoostRanking, LightGBMLambdaRank):
        (tmp_path / cls.__name__).mkdir()
        rows, _ = fit(
            tmp_path / cls.__name__, booster(cls), losses.BinaryCrossEntropy(), train=table()
        )
        assert rows[-1]["val/aucpr"] > 0.2
    with pytest.raises(RequestError, match=r"dataset\.sample_weight: XGBoost weighs queries"):
        booster(XGBoostRanking).begin(table(weighted=True), seed=0)


def test_a_run_on_lightgbms_own_loss_ignores_the_loss() -> None:
    small = ["dataset=digits8", "model=lightgbm_logloss", "model.num_iterations=5", "tracking=none"]
    run = rarelab.train(small)
    assert run.directory.name.startswith("digits8-lightgbm_logloss-s0")
    assert run.metrics["best/epoch"] < 5 and "optimizer" not in str(run.metrics)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trainer.patience=3"], "trainer.patience=3: LightGBM counts rounds"),
        (["sampler=stratified"], "sampler: LightGBM fits all rows at once"),
        (["trainer.devices=2"], "trainer.devices=2: LightGBM fits all rows at once"),
        (["dataset=sequence_toy"], "model: LightGBM takes rows"),
        (["model.num_leaves=1"], "model lightgbm: num_leaves must be 2 to 131072, found 1"),
        (["model.lambda_l2=-1"], "lambda_l2 must be at least 0"),
        (["model.num_iterations=20", "trainer.max_epochs=5"], "leave no round at the final"),
        (["model=xgboost", "model.max_depth=0"], "model xgboost: max_depth must be 1 to 30"),
        (["model=xgboost_rank", "model.objective=rank:mop"], "did you mean 'rank:map'"),
        (
            ["model=xgboost_rank", "dataset=longtail_toy"],
            "num_outputs must be 1: it ranks two classes",
        ),
        (["model=lightgbm_lambdarank", "model.rows_per_query=20000"], "must be 2 to 10000"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(
    home: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        rarelab.train(["model=lightgbm", "tracking=none", *overrides])
    assert not (home / "runs").exists()


@pytest.mark.parametrize(
    ("cls", "missing", "said"),
    [
        (LightGBM, "libgomp.so.1: cannot open shared object file", "apt-get install libgomp1"),
        (XGBoost, "No module named 'xgboost'", "pip install xgboost-cpu, which is small"),
        (CatBoost, "No module named 'catboost'", r"pip install 'rarelab\[catboost\]'"),
    ],
)
def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, cls: type, missing: str, said: str
) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == cls.__module__.rpartition(".")[2]:
            raise ImportError(missing)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RequestError, match=f"{re.escape(missing)}.*{said}"):
        cls(6, 1)


@pytest.mark.parametrize("cls", [LightGBM, XGBoost])
def test_a_model_as_arrays_gives_the_same_bits_and_refuses_what_is_not_its_own(cls: type) -> None:
    model, rows = booster(cls, 3), table(classes=3)
    with pytest.raises(RarelabError, match="before the fit"):
        model.scores(rows.x)
    model.begin(rows, seed=0)
    for _ in range(4):
        model.grow(lambda scores: slope([(1.0, losses.CrossEntropy(3))], scores, rows.y))
    model.keep(3)
    again, state = booster(cls, 3), model.state()
    again.load_state(state)
    assert torch.equal(again.scores(rows.x), model.scores(rows.x))
    for wrong, said in (
        ({**state, "text": state["text"].astype(np.int64)}, "expected bytes"),
        ({**state, "start": state["start"][:2]}, r"the start has shape \[2\], not \[3\]"),
        ({**state, "start": state["start"] * np.nan}, "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=said):
            booster(cls, 3).load_state(wrong)
    with pytest.raises(ValueError, match="read 6 features and give 3 scores, not 6 and 4"):
        booster(cls, 4).load_state({**state, "start": np.zeros(4)})


@pytest.mark.parametrize("cls", [*BOTH, XGBoost, XGBoostLogLoss])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_onnx_graph_gives_the_boosters_scores(cls: type, classes: int) -> None:
    rows, outputs = table(classes=classes), 1 if classes == 2 else classes
    loss = losses.plain_loss(outputs)
    model = booster(cls, outputs)
    model.begin(rows, seed=0)
    for _ in range(5):
        model.grow(lambda scores: slope([(1.0, loss)], scores, rows.y))
    model.keep(model.steps)
    graph = model.onnx_graph()
    graph.ir_version = IR_VERSION
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = rows.x.numpy()
    above, below = (np.nextafter(x, np.float32(to)) for to in (np.inf, -np.inf))
    x = np.concatenate([x, above, below, 1e6 * x])
    found = session.run(None, {"features": x})[0]
    expected = model.scores(torch.from_numpy(x)).numpy()
    assert len(np.unique(expected)) > 20
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "classes"), [(CatBoost, 2), (CatBoost, 3), (CatBoostYetiRank, 2)])
def test_catboost_fits_the_same_each_time_and_is_kept_as_bytes(cls: type, classes: int) -> None:
    outputs, rows, held_out = (
        1 if classes == 2 else classes,
        table(classes=classes),
        table(500, classes, 1),
    )
    small = {"iterations": 40, "depth": 3, "early_stopping_round": 10}

    def fitted(threads: int = 1, **options: Any) -> Any:
        model = cls(6, outputs, **{**small, **options})
        with limited_threads(threads):
            model.fit(rows, held_out, seed=3)
        return model

    first = fitted()
    scores = first.scores(held_out.x)
    assert scores.shape == (500, outputs) and scores.dtype == torch.float32
    rare = scores[:, -1]
    assert average_precision_score(held_out.y == classes - 1, rare) > 0.3
    for again in (fitted(), fitted(2), fitted(**first.kept())):
        assert torch.equal(again.scores(held_out.x), scores)
    other = cls(6, outputs)
    with pytest.raises(RarelabError, match="before the fit"):
        other.scores(held_out.x)
    other.load_state(first.state())
    assert torch.equal(other.scores(held_out.x), scores)
    with pytest.raises(ValueError, match="read 6 features, not 5"):
        cls(5, outputs).load_state(first.state())
    with pytest.raises(ValueError, match="cannot read its model"):
        other.load_state({"cbm": first.state()["cbm"][:500]})


@pytest.mark.slow
def test_a_run_of_catboost_is_recorded_reproduced_and_scored(home: Path) -> None:
    from rarelab.runs.reproduce import reproduce

    small = ["dataset.n_samples=2000", "dataset.pos_rate=0.05", "tracking=none"]
    run = rarelab.train([*small, "model=catboost", "model.iterations=30"])
    assert run.metrics["test/aucpr"] > 0.3
    assert reproduce(run.directory.name, home) == 0
    with pytest.raises(RequestError, match="num_outputs must be 1: it ranks two classes"):
        rarelab.train(["dataset=longtail_toy", "model=catboost_yetirank", "tracking=none"])
