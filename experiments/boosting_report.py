"""The boosting contests side by side: the marked parts of docs/boosting.md.

    python experiments/boosting_report.py

needs only the committed CSVs of the studies NAME_boosting.
"""

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from scipy.stats import wilcoxon

from rarelab.compare.contrast import BETTER, EQUAL, NOT_SETTLED, WORSE, Contrast
from rarelab.compare.study import Study
from rarelab.compare.words import number
from rarelab.ledger.contests import TRIALS
from rarelab.ledger.pages import fill
from rarelab.ledger.study import KeptStudy

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "boosting.md"

SETS = (
    *("creditcard", "protein_homo", "letter", "kdd_census", "give_me_some_credit"),
    "bank_marketing",
)
"""Sorted by rate of positives."""
NAMES = {
    "loss=weighted_bce": "weighted BCE",
    "loss=sigmoid_focal": "focal",
    "loss=smooth_ap": "Smooth-AP",
    "loss=pauc_at_budget": "partial AUC",
}
"""The arms, by what their labels contain."""
FINE = 0.001
"""The margin of the second verdict on AUCPR: a tenth of the usual one."""
VERDICTS = (BETTER, WORSE, EQUAL, NOT_SETTLED)
MARKS = {BETTER: " **+**", WORSE: " **-**", EQUAL: " ="}


@cache
def kept() -> dict[str, KeptStudy]:
    """The contests that have runs, by data set."""
    found = {name: KeptStudy(HERE / f"{name}_boosting.yaml") for name in SETS}
    return {name: study for name, study in found.items() if study.has_runs}


@cache
def answers(name: str) -> list[Study]:
    return kept()[name].answers()


def contrasts(name: str, metric: str, margin: float | None = None) -> dict[str, Contrast]:
    """The contrast of each arm with log-loss, by its name here."""
    asked = kept()[name].comparisons
    place = next(k for k, one in enumerate(asked) if (one.metric, one.margin) == (metric, margin))
    (finding,) = answers(name)[place].findings
    return {_name(c.arm.label): c for c in finding.contrasts}


def _name(label: str) -> str:
    return next(name for part, name in NAMES.items() if part in label.split())


def baseline(name: str, metric: str) -> float:
    (finding,) = next(a for a in answers(name) if a.question.metric == metric).findings
    return finding.baseline.mean


def differences(metric: str, margin: float | None = None) -> str:
    """Mean difference to log-loss with the half-width of its 95 % interval, by set and arm."""
    found = {name: contrasts(name, metric, margin) for name in kept()}
    arms = [arm for arm in NAMES.values() if any(arm in own for own in found.values())]
    lines = [f"| | splits | log-loss | {' | '.join(arms)} |", "|---" * (len(arms) + 3) + "|"]
    for name, own in found.items():
        cells = [_cell(own[arm]) if arm in own else "" for arm in arms]
        splits = max(c.arm.n for c in own.values())
        start = f"| {name} | {splits} | {baseline(name, metric):.4f} | "
        lines.append(f"{start}{' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(c: Contrast) -> str:
    assert c.test is not None
    half = (c.test.high - c.test.low) / 2
    mark = MARKS.get(c.verdict, "")
    return f"{number(c.test.difference, signed=True)} ± {half:.4f}{mark}"


def answer() -> str:
    """The verdicts in sentences."""
    lines = []
    for arm in NAMES.values():
        fine = {n: c[arm] for n in kept() if arm in (c := contrasts(n, "test/aucpr", FINE))}
        usual = {n: c[arm] for n in kept() if arm in (c := contrasts(n, "test/aucpr"))}
        if fine:
            shown = [f"{v}: {_where(fine, v)}" for v in VERDICTS]
            gains = [f"{c.test.difference:+.4f}" for c in fine.values() if c.test]
            equal = sum(c.verdict == EQUAL for c in usual.values())
            lines.append(
                f"- **{arm}**: {'; '.join(s for s in shown if not s.endswith(': none'))} "
                f"(mean differences {_span(gains)}). With the usual margin of 0.01: practically "
                f"equal on {equal} of {len(usual)}."
            )
    return "\n".join(lines)


def _where(found: Mapping[str, Contrast], verdict: str) -> str:
    return ", ".join(name for name, c in found.items() if c.verdict == verdict) or "none"


def _span(gains: Sequence[str]) -> str:
    low, high = min(gains, key=float), max(gains, key=float)
    return low if low == high else f"{low} to {high}"


class Tried(NamedTuple):
    """A trial: what it set, and its validation AUCPR less that of log-loss with the same trees on
    the same split."""

    set: Mapping[str, float]
    gain: float


@cache
def tried(name: str, loss: str) -> list[Tried]:
    """The trials of a loss of LightGBM on a data set; none if it is no arm there."""
    with (kept()[name].folder / TRIALS).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    plain = {_trees(row): float(row["value"]) for row in _of(rows, "bce")}
    return [
        Tried(_numbers(row), float(row["value"]) - plain[_trees(row)]) for row in _of(rows, loss)
    ]


def _of(rows: Sequence[Mapping[str, str]], loss: str) -> list[Mapping[str, str]]:
    return [row for row in rows if f"loss={loss}" in row["arm"].split()]


def _trees(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[key] for key in ("dataset.split_seed", "trial", *TREES))


def _numbers(row: Mapping[str, str]) -> dict[str, float]:
    return {key: float(row[key]) for key in BANDS if row.get(key)}


TREES = ("model.learning_rate", "model.num_leaves")
BANDS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "schedule.final_main_weight": ("weight w", (0.3, 0.5, 0.75, 0.95)),
    "schedule.temp_end": ("temperature at the end", (0.1, 0.22, 0.46, 1.0)),
    "schedule.warmup_steps": ("warmup, rounds", (20, 47, 74, 101)),
    "model.learning_rate": ("learning rate", (0.04, 0.06, 0.1, 0.15)),
    "model.num_leaves": ("leaves", (7, 14, 30, 63)),
}
"""Searched key -> its name, and the bands in which the trials of Smooth-AP are counted."""


def recipe() -> str:
    """What the trials of Smooth-AP gained on validation, by what they set, in thousandths."""
    every = [tried(name, "smooth_ap") for name in kept()]
    lines = [f"| | {' | '.join(kept())} | mean |", "|---" * (len(every) + 2) + "|"]
    for key, (label, edges) in BANDS.items():
        for low, high in pairwise(edges):
            inside = [[t.gain for t in own if low <= t.set[key] <= high] for own in every]
            lines.append(_gains(f"{label} {low:g} to {high:g}", inside))
    for part, arm in NAMES.items():
        loss = part.removeprefix("loss=")
        every = [tried(name, loss) if loss != part else [] for name in kept()]
        if any(every):
            lines.append(_gains(f"all trials of {arm}", [[t.gain for t in own] for own in every]))
    return "\n".join(lines)


def _gains(label: str, gains: Sequence[Sequence[float]]) -> str:
    """A line: by set the mean and how many are above zero, and the mean of the sets."""
    cells = [
        f"{1000 * fmean(g):+.1f} ({sum(x > 0 for x in g)} of {len(g)})" if g else "-" for g in gains
    ]
    return f"| {label} | {' | '.join(cells)} | {1000 * fmean(fmean(g) for g in gains if g):+.1f} |"


FIXED = {"warmup_steps=60": "the recipe", "warmup_steps=0": "alone"}
"""The arms of recipe_boosting, by what their labels contain."""


def by_set(name: str, arms: Mapping[str, str]) -> str:
    """The arms of a study of more than one data set: differences to log-loss on LightGBM."""
    study = KeptStudy(HERE / f"{name}.yaml")
    lines = [f"| | log-loss | {' | '.join(arms.values())} |", "|---" * (len(arms) + 2) + "|"]
    gains: dict[str, list[Contrast]] = {arm: [] for arm in arms.values()}
    for finding in study.answers()[0].findings:
        own = {arms[_part(arms, c.arm.label)]: c for c in finding.contrasts}
        for arm, contrast in own.items():
            gains[arm].append(contrast)
        cells = " | ".join(_cell(own[arm]) for arm in arms.values())
        data = finding.data.split()[0].rpartition("=")[2]
        lines.append(f"| {data} | {finding.baseline.mean:.4f} | {cells} |")
    return "\n".join([*lines, "", *(_over_sets(arm, found) for arm, found in gains.items())])


def _part(arms: Mapping[str, str], label: str) -> str:
    return next(part for part in arms if part in label.split())


def _over_sets(name: str, found: Sequence[Contrast]) -> str:
    """How an arm did over the data sets, with a signed-rank test of its mean differences."""
    differences = [c.test.difference for c in found if c.test]
    told = ", ".join(f"{v} on {sum(c.verdict == v for c in found)}" for v in VERDICTS)
    _, p = wilcoxon(differences)
    return (
        f"- **{name}**: {told}; ahead on {sum(d > 0 for d in differences)} of {len(found)}, mean "
        f"{fmean(differences):+.4f}, signed-rank test over the sets p = {p:.2g}."
    )


def sections() -> dict[Path, dict[str, str]]:
    """The generated parts of each page, by marker."""
    own = {
        "answer": answer(),
        "aucpr": differences("test/aucpr", FINE),
        "recall": differences("test/recall_at_q/0.01"),
        "recipe": recipe(),
        "fixed": by_set("recipe_boosting", FIXED),
    }
    return {PAGE: own}


def main() -> None:
    for page, parts in sections().items():
        fill(page, parts)


if __name__ == "__main__":
    main()
