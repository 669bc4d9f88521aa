"""Figures of a run: drawn from any history and scores, without touching global state."""

import re
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

import rarelab as package
from rarelab.figures import palette
from rarelab.figures import run as figures
from rarelab.figures.run import run_figures
from rarelab.metrics import one_vs_rest, probabilities_of
from rarelab.metrics.curves import curves
from rarelab.metrics.reliability import reliability

NAMES = ["precision_recall", "recall_at_quantile", "reliability", "training", "scores"]


def history(weights=(0.0, 0.0, 0.5, 1.0, 1.0, 1.0), **more):
    rows = [
        {"step": e, "time": e, "metrics": {"val/aucpr": 0.1 * e, "train/ap_weight": w, **more}}
        for e, w in enumerate(weights)
    ]
    return [*rows, {"step": 4, "time": 9, "metrics": {"best/val_aucpr": 0.4, "best/epoch": 4.0}}]


def data(n=2000, outputs=1, rate=0.02, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if outputs == 1:
        targets = (torch.rand(n, generator=generator) < rate).long()
        return torch.randn(n, 1, generator=generator) + 2 * targets[:, None], targets
    targets = torch.randint(outputs, (n,), generator=generator)
    scores = torch.randn(n, outputs, generator=generator)
    scores[torch.arange(n), targets] += 1
    return scores, targets


def complete(scores, targets, classes=None):
    """Add the curves that the evaluation of a run would add."""
    _, positives = one_vs_rest(scores, targets)
    points = reliability(probabilities_of(scores), positives)
    found = curves(scores, targets, classes=classes)
    return found | {"reliability": {"as scored": points, "platt": points}}


def draw(directory, rows, scores, targets, classes):
    found = complete(scores, targets, classes)
    return run_figures(directory, rows, found, scores, targets, classes)


@pytest.fixture
def drawn(monkeypatch):
    """The axes of each saved figure, by name."""
    seen: dict[str, Figure] = {}
    save = Figure.savefig

    def remember(self, path, **options):
        seen[path.stem] = self
        return save(self, path, **options)

    monkeypatch.setattr(Figure, "savefig", remember)
    return seen


def labels(axes: Axes) -> list[str]:
    return [str(text) for text in axes.get_legend_handles_labels()[1]]


def test_figures_of_a_binary_run(tmp_path, drawn):
    scores, targets = data()
    found = complete(scores, targets)
    paths = run_figures(
        tmp_path, history(**{"train/loss": 0.5}), found, scores, targets, ["n", "p"]
    )
    assert paths == [tmp_path / "figures" / f"{name}.png" for name in NAMES]
    for path in paths:
        image = imread(path)
        assert image.shape[0] > 300 and image.shape[1] > 500 and image.std() > 0.01
    [recall] = drawn["recall_at_quantile"].axes
    lines = {line.get_label(): line for line in recall.lines}
    for label, key in [("this model", "values"), ("the best possible", "best"), ("chance",) * 2]:
        assert list(lines[label].get_ydata()) == found["recall_at_q"][key]
    assert [text.get_text()[-1] for text in recall.texts] == ["%"] * 4
    [precision] = drawn["precision_recall"].axes
    assert labels(precision)[0] == "this model" and labels(precision)[1].startswith("chance")
    [diagram] = drawn["reliability"].axes
    assert labels(diagram) == ["calibrated", "as scored", "platt"]
    [histogram] = drawn["scores"].axes
    positives = int(targets.sum())
    assert f"p ({positives:,} rows)" in labels(histogram)


def test_the_phases_of_training_are_shaded_and_named(tmp_path, drawn):
    draw(tmp_path, history(**{"train/loss": 0.5}), *data(), ["n", "p"])
    training, right = drawn["training"].axes
    assert [text.get_text() for text in training.texts] == ["warmup", "blend", "main"]
    spans = [(p.get_x(), p.get_x() + p.get_width()) for p in training.patches]
    assert spans == [(0.5, 2.5), (2.5, 3.5), (3.5, 6.5)]
    assert labels(training) == ["selected epoch"] and len(right.lines) == 1


def test_a_final_weight_below_one_is_the_main_phase(tmp_path, drawn):
    draw(tmp_path, history((0.0, 0.4, 0.8, 0.8)), *data(), ["n", "p"])
    [training] = drawn["training"].axes
    assert [text.get_text() for text in training.texts] == ["warmup", "blend", "main"]


def test_a_plain_loss_has_one_phase(tmp_path, drawn):
    rows = [{"step": 0, "time": 0, "metrics": {"val/aucpr": 0.1}}]
    draw(tmp_path, rows, *data(), ["n", "p"])
    assert [text.get_text() for text in drawn["training"].axes[0].texts] == ["main"]


def test_multi_class_draws_a_line_per_class_and_the_macro_average(tmp_path, drawn):
    classes = ["a", "b", "c"]
    draw(tmp_path, history(), *data(outputs=3), classes)
    assert labels(drawn["precision_recall"].axes[0])[:4] == [*classes, "macro average"]
    ticks = [tick.get_text() for tick in drawn["scores"].axes[0].get_yticklabels()]
    assert ticks == classes


def test_with_many_classes_the_rarest_ten_are_drawn(tmp_path, drawn):
    scores, targets = data(outputs=14)
    targets[targets == 13] = 0
    targets[targets == 12] = 1
    classes = [f"class with a long name {i}" for i in range(14)]
    draw(tmp_path, history(), scores, targets, classes)
    shown = labels(drawn["precision_recall"].axes[0])[:-2]
    assert len(shown) == len(set(shown)) == 10
    assert not [name for name in shown if name.endswith(("name 12", "name 13", "name 0", "name 1"))]


@pytest.mark.parametrize("case", ["no positive", "NaN", "infinite", "constant", "one row"])
def test_degenerate_scores_are_drawn_too(tmp_path, case):
    scores, targets = data(200, rate=0.1)
    if case == "no positive":
        targets[:] = 0
    elif case == "NaN":
        scores[3] = float("nan")
    elif case == "infinite":
        scores[3] = float("inf")
    elif case == "constant":
        scores[:] = 1.0
    else:
        scores, targets = scores[:1], targets[:1]
    assert len(draw(tmp_path, [], scores, targets, ["n", "p"])) == len(NAMES)


def test_an_infinite_loss_does_not_spoil_the_rest_of_the_figure(tmp_path, drawn):
    rows = history(**{"train/loss": float("inf")})
    draw(tmp_path, rows, *data(), ["n", "p"])
    assert len(drawn["training"].axes) == 1


@pytest.mark.parametrize("rate", [0.02, 0.4])
@pytest.mark.parametrize("outputs", [1, 12])
def test_drawing_the_minor_ticks_at_once_changes_no_pixel(tmp_path, monkeypatch, outputs, rate):
    case = data(outputs=outputs, rate=rate)
    names = [str(c) for c in range(max(outputs, 2))]
    quick = draw(tmp_path / "quick", history(), *case, names)
    monkeypatch.setattr(figures, "_cheap_minor_ticks", lambda axes: None)
    usual = draw(tmp_path / "usual", history(), *case, names)
    for one, other in zip(quick, usual, strict=True):
        assert (imread(one) == imread(other)).all(), one.name


def test_pyplot_is_not_used(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    draw(tmp_path, history(), *data(), ["n", "p"])
    assert before == ("matplotlib.pyplot" in sys.modules)
    assert not hasattr(figures, "plt")


def test_the_colours_of_all_figures_are_defined_in_one_place():
    source = Path(package.__file__).parent
    named = re.compile(r"""["']#[0-9A-Fa-f]{6}["']""")
    found = {path.name for path in source.rglob("*.py") if named.search(path.read_text("utf-8"))}
    assert found == {"palette.py"}
    assert len(set(palette.PALETTE)) == len(palette.PALETTE)
