"""Where a ranking loss pays: the marked parts of docs/map.md, its answer on other pages, a picture.

    python experiments/map_report.py

needs only the committed CSVs of the studies NAME_map and NAME_boosting, and that of null_map.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from scipy.stats import wilcoxon

from rarelab.compare.contrast import BETTER, EQUAL, NOT_SETTLED, WORSE, Contrast, Finding
from rarelab.compare.study import Study
from rarelab.compare.words import number
from rarelab.ledger.pages import DIGEST, drawn_from, fill
from rarelab.ledger.study import KeptStudy

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "map.md"
FRONTS = (HERE.parent / "README.md", HERE.parent / "docs" / "should-i-use-a-ranking-loss.md")
"""The pages that state the answer in short."""
PICTURE = HERE.parent / "docs" / "map.png"

SETS = (
    *("creditcard", "protein_homo", "fatal_crashes", "hiva", "letter", "white_wine"),
    *("hypothyroid", "churn_tv", "caravan", "kdd_census", "give_me_some_credit"),
    *("taxi_cancelled", "dopamine_d3", "satimage", "bank_marketing"),
)
"""Sorted by rate of positives."""
MODELS = {"linear": "linear", "mlp": "64-64 network", "lightgbm": "LightGBM"}
RANKING = {
    "smooth_ap": "Smooth-AP",
    "recall_at_quantile": "recall at a quantile",
    "pauc_at_budget": "partial AUC",
}
LOSSES = {"weighted_bce": "weighted BCE", "sigmoid_focal": "focal"} | RANKING
VERDICTS = (BETTER, WORSE, EQUAL, NOT_SETTLED)
MARKS = {BETTER: " **+**", WORSE: " **-**", EQUAL: " ="}
COLOURS = {BETTER: "#9ecae1", WORSE: "#fdae6b", EQUAL: "#d9d9d9", NOT_SETTLED: "#ffffff"}
CHOSEN_BY = "best/val_aucpr"
ENOUGH = 6
"""Data sets without which no signed-rank test can reach 5 %."""


class Cell(NamedTuple):
    """A loss against BCE on a model and a data set.

    ``value``: mean validation AUCPR of its runs. ``found``: how many more of 100 positives are
    among the rows that the budget allows.
    """

    base: float
    loss: str
    contrast: Contrast
    value: float
    found: float

    @property
    def difference(self) -> float:
        assert self.contrast.test is not None
        return self.contrast.test.difference

    @property
    def half(self) -> float:
        """Half the width of the interval of the difference."""
        assert self.contrast.test is not None
        return (self.contrast.test.high - self.contrast.test.low) / 2


def asked(name: str) -> Iterator[tuple[KeptStudy, str | None]]:
    """The studies of a data set that have runs, with the model if there is only one."""
    for kind, model in (("map", None), ("boosting", "lightgbm")):
        study = KeptStudy(HERE / f"{name}_{kind}.yaml")
        if study.path.is_file() and study.has_runs:
            yield study, model


@cache
def cells(name: str) -> dict[str, list[Cell]]:
    """The cells of a data set by model."""
    found: dict[str, list[Cell]] = {}
    for study, model in asked(name):
        answers = study.answers()
        recall = next(a for a in answers if "recall_at_q" in a.question.metric)
        for finding, at_budget in zip(answers[0].findings, recall.findings, strict=True):
            own = model or finding.data.rpartition("=")[2]
            found[own] = list(_cells(answers[0], finding, at_budget))
    return found


def _cells(answer: Study, finding: Finding, recall: Finding) -> Iterator[Cell]:
    values = {
        arm.label: fmean(run.metrics[CHOSEN_BY] for run in arm.runs.values())
        for data in answer.data_sets
        if data.label == finding.data
        for arm in data.arms
    }
    gained = {c.arm.label: c.test.difference for c in recall.contrasts if c.test}
    for c in finding.contrasts:
        label = c.arm.label
        loss = next(k for k in LOSSES if f"loss={k}" in label.split())
        found = round(100 * gained[label], 1) + 0.0  # no -0.0
        yield Cell(finding.baseline.mean, loss, c, values[label], found)


def best(name: str, model: str) -> Cell | None:
    """The ranking loss with the highest validation AUCPR."""
    ranking = [cell for cell in cells(name).get(model, []) if cell.loss in RANKING]
    return max(ranking, key=lambda cell: cell.value, default=None)


def charted() -> dict[str, dict[str, Cell]]:
    """Data set -> model -> the cell that the map shows."""
    found = {name: {m: cell for m in MODELS if (cell := best(name, m))} for name in SETS}
    return {name: own for name, own in found.items() if own}


def budget(name: str) -> str:
    study, _ = next(asked(name))
    level = next(c.metric for c in study.comparisons if "recall_at_q" in c.metric)
    return f"{float(level.rpartition('/')[2]):.0%}".replace("%", " %")


def rate(name: str) -> str:
    study, _ = next(asked(name))
    return f"{study.runs()[0].metrics['test/prevalence']:.2%}".replace("%", " %")


def table() -> str:
    """Rows = data sets, columns = models, cell = the best ranking loss against BCE."""
    names = " | ".join(MODELS.values())
    lines = [f"| | positives | budget | {names} |", "|---" * (len(MODELS) + 3) + "|"]
    for name, own in charted().items():
        shown = " | ".join(_shown(own[m]) if m in own else "" for m in MODELS)
        lines.append(f"| {name} | {rate(name)} | {budget(name)} | {shown} |")
    return "\n".join(lines)


def _shown(cell: Cell) -> str:
    gain = number(cell.difference, signed=True)
    mark = MARKS.get(cell.contrast.verdict, "")
    return (
        f"{cell.base:.3f} {gain} ± {cell.half:.3f}{mark}, {RANKING[cell.loss]}, {cell.found:+.1f}"
    )


def answer() -> str:
    """For each model how the best ranking loss did, in a sentence."""
    lines = []
    for model, name in MODELS.items():
        own = {n: found[model] for n, found in charted().items() if model in found}
        if own:
            lines.append(f"- **{name}**, {len(own)} sets: {_counted(own)}. {_over_sets(own)}")
    return "\n".join(lines)


def _counted(own: Mapping[str, Cell]) -> str:
    told = []
    for verdict in VERDICTS:
        where = [name for name, cell in own.items() if cell.contrast.verdict == verdict]
        named = f" ({', '.join(where)})" if where and verdict in (BETTER, WORSE) else ""
        told.append(f"{verdict} on {len(where)}{named}")
    return ", ".join(told)


def _over_sets(own: Mapping[str, Cell]) -> str:
    gains = [cell.difference for cell in own.values()]
    found = median(cell.found for cell in own.values())
    told = f"The median difference is {median(gains):+.4f} AUCPR and {found:+.1f} of 100 positives"
    if len(gains) < ENOUGH:
        return f"{told}."
    _, p = wilcoxon(gains)
    return f"{told}; signed-rank test over the sets: p = {p:.2g}."


def counts() -> str:
    """How each loss did against BCE over the data sets, by model."""
    columns = [*VERDICTS, "ahead", "mean difference", "p over the sets"]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for model, name in MODELS.items():
        for loss, told in LOSSES.items():
            every = [c for n in charted() for c in cells(n).get(model, []) if c.loss == loss]
            if every:
                lines.append(f"| {name}, {told} | {' | '.join(_over(every))} |")
    return "\n".join(lines)


def _over(own: Sequence[Cell]) -> Iterator[str]:
    verdicts = [cell.contrast.verdict for cell in own]
    gains = [cell.difference for cell in own]
    yield from (str(verdicts.count(verdict)) for verdict in VERDICTS)
    yield f"{sum(gain > 0 for gain in gains)} of {len(gains)}"
    yield f"{fmean(gains):+.4f}"
    yield f"{wilcoxon(gains)[1]:.2g}" if len(gains) >= ENOUGH else ""


NULL = {"test/aucpr": "AUCPR", "test/recall_at_q/0.05": "recall among the top 5 %"}


def null() -> str:
    """The verdicts on permuted labels, where any "better" or "worse" is a false claim."""
    with (HERE / "null_map" / "result.csv").open(newline="", encoding="utf-8") as file:
        kept = list(csv.DictReader(file))
    sets = list(dict.fromkeys(row["set"] for row in kept))
    lines = [f"| {', '.join(sets)} | cells | {' | '.join(VERDICTS)} |"]
    lines.append("|---" * (len(VERDICTS) + 2) + "|")
    for metric, name in NULL.items():
        found = [row["verdict"] for row in kept if row["metric"] == metric]
        cells = " | ".join(str(found.count(verdict)) for verdict in VERDICTS)
        lines.append(f"| {name} | {len(found)} | {cells} |")
    false = [row for row in kept if row["verdict"] in (BETTER, WORSE)]
    families, wrong = (len({(r["set"], r["metric"], r["model"]) for r in x}) for x in (kept, false))
    share = f"{len(false) / len(kept):.1%}".replace("%", " %")
    told = f"False claims: {len(false)} of {len(kept)} cells ({share}), in {wrong} of {families}"
    return "\n".join([*lines, f"\n{told} families."])


SMALL = {"[]": "linear", "[4]": "4", "[16]": "16", "[64,64]": "64-64"}


def capacity() -> str:
    """Test AUCPR on contested_top by cue and hidden units: BCE, and the differences to it."""
    _, aucpr = KeptStudy(HERE / "capacity.yaml").answers()
    found = {tuple(one.data.split()): one for one in aucpr.findings}
    lines = [
        "| cue | hidden units | BCE | Smooth-AP | partial AUC | weighted BCE |",
        "|---" * 6 + "|",
    ]
    for cue in ("linear", "product", "radial"):
        for hidden, name in SMALL.items():
            one = found[f"cue={cue}", f"hidden={hidden}"]
            own = {c.arm.label.removeprefix("loss="): c for c in one.contrasts}
            losses = ("smooth_ap", "pauc_at_budget", "weighted_bce")
            cells = " | ".join(_difference(own[loss]) for loss in losses)
            lines.append(f"| {cue} | {name} | {one.baseline.mean:.3f} | {cells} |")
    return "\n".join(lines)


def _difference(c: Contrast) -> str:
    assert c.test is not None
    return f"{number(c.test.difference, signed=True)}{MARKS.get(c.verdict, '')}"


def in_short() -> str:
    """The answer in a few lines."""
    charts = charted()
    lines = [
        f"On {len(charts)} real data sets, ten splits each, every loss searched on every split:\n"
        "does the best ranking loss beat BCE in test AUCPR on the same model?\n"
    ]
    for model, name in MODELS.items():
        own = {n: found[model] for n, found in charts.items() if model in found}
        if own:
            lines.append(f"- **{name}**: {_counted(own)}. {_smooth_ap(model)}")
    lines.append(
        "\nThe verdicts are corrected for the losses tried; the p-values over sets are not."
    )
    return "\n".join(lines)


def _smooth_ap(model: str) -> str:
    """Smooth-AP alone over the data sets."""
    own = [c for n in charted() for c in cells(n).get(model, []) if c.loss == "smooth_ap"]
    *_, ahead, mean, p = _over(own)
    told = f"Smooth-AP is ahead on {ahead} sets, by {mean} on average"
    return f"{told} (signed-rank test, p = {p})." if p else f"{told}."


def draw(path: Path = PICTURE) -> None:
    """Draw the map; a picture of the same cells is kept, since redrawing may change its bytes."""
    found = charted()
    shown = table()
    if found and drawn_from(path) != shown:
        picture(found).savefig(path, dpi=110, metadata={DIGEST: shown})


def picture(found: Mapping[str, Mapping[str, Cell]]) -> Figure:
    """The table as coloured squares."""
    figure = Figure(figsize=(7.5, 1.3 + 0.42 * len(found)), layout="constrained")
    axes = figure.add_subplot()
    for row, own in enumerate(found.values()):
        for column, model in enumerate(MODELS):
            if model in own:
                _square(axes, column, row, own[model])
    axes.set_xlim(0, len(MODELS))
    axes.set_ylim(len(found), 0)
    axes.set_xticks([k + 0.5 for k in range(len(MODELS))], list(MODELS.values()))
    axes.set_yticks([k + 0.5 for k in range(len(found))], [f"{n}  {rate(n)}" for n in found])
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_title(
        "Best ranking loss less BCE on the same model: test AUCPR\n"
        "(in brackets: more of 100 positives found at the budget)",
        fontsize=10,
    )
    handles = [Patch(facecolor=c, edgecolor="grey", label=v) for v, c in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _square(axes, column: int, row: int, cell: Cell) -> None:
    colour = COLOURS[cell.contrast.verdict]
    square = Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="grey", lw=0.5)
    axes.add_patch(square).set_clip_on(False)  # else the map's outer edges lose half their line
    told = f"{number(cell.difference, signed=True)}  ({cell.found:+.1f})\n{RANKING[cell.loss]}"
    axes.text(column + 0.5, row + 0.5, told, ha="center", va="center", fontsize=7.5)


def sections() -> dict[Path, dict[str, str]]:
    """The generated parts of each page, by marker."""
    own = {"answer": answer(), "map": table(), "counts": counts(), "null": null()}
    own["capacity"] = capacity()
    return {PAGE: own} | {front: {"map": in_short()} for front in FRONTS}


def main() -> None:
    for page, parts in sections().items():
        fill(page, parts)
    draw()


if __name__ == "__main__":
    main()
