"""The studies of real data side by side: the tables of docs/should-i-use-a-ranking-loss.md.

    python experiments/real_report.py

needs only the committed CSVs. It rewrites the marked parts of that page and of the README, and
experiments/real_ranks.png.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean

from rarelab.compare import effects, words
from rarelab.compare.across import Across, across
from rarelab.compare.arms import group
from rarelab.compare.contrast import BETTER, EQUAL, NOT_SETTLED, WORSE, Contrast
from rarelab.compare.study import Study
from rarelab.ledger.pages import DIGEST, drawn_from, fill
from rarelab.ledger.study import KeptStudy
from rarelab.records.load import Run

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "should-i-use-a-ranking-loss.md"
README = HERE.parent / "README.md"
PICTURE = HERE / "real_ranks.png"

SETS = (
    *("creditcard", "protein_homo", "letter", "kdd_census", "give_me_some_credit"),
    "bank_marketing",
)
"""Sorted by rate of positives."""
VARIANTS = ("creditcard_time", "protein_homo_grouped", "kdd_census_once")
"""Alternative splits of the same rows: not counted as data sets in a test across data sets."""

BOOSTING = "hist_gradient_boosting"
ARMS = (
    *("bce", "weighted_bce", "sigmoid_focal", "hard_negative_bce", "smooth_ap"),
    *("recall_at_quantile", "pauc_at_budget", BOOSTING),
)
RANKING = ("smooth_ap", "recall_at_quantile", "pauc_at_budget")
_NAMES = {"hist_gradient_boosting": "boosting", "sigmoid_focal": "focal"}
_MARKS = {BETTER: " **+**", WORSE: " **-**", EQUAL: " ="}
ALPHA = 0.05
_METRICS = {
    "test/aucpr": "AUCPR",
    "test/recall_at_q/0.005": "Recall at 0.5 %",
    "test/recall_at_q/0.01": "Recall at 1 %",
}


def kept(names: Sequence[str]) -> dict[str, KeptStudy]:
    """The studies that have runs, keyed by data set."""
    found = {name: KeptStudy(HERE / f"{name}_losses.yaml") for name in names}
    return {name: study for name, study in found.items() if study.has_runs}


@cache
def runs_of(study: KeptStudy) -> list[Run]:
    """The study's runs, read once: several tables show them."""
    return study.runs()


@cache
def answers_of(study: KeptStudy) -> list[Study]:
    """The study's results, computed once."""
    return study.answers()


def arm_of(params: Mapping[str, str]) -> str:
    return BOOSTING if params["model"] == BOOSTING else params["loss"]


def table(metric: str) -> str:
    """Means by study and arm, each with the verdict against BCE in the same study."""
    lines = [
        "| | " + " | ".join(f"`{_NAMES.get(arm, arm)}`" for arm in ARMS) + " |",
        "|---" * (len(ARMS) + 1) + "|",
    ]
    for name, study in kept([*SETS, *VARIANTS]).items():
        answers = {answer.question.metric: answer for answer in answers_of(study)}
        cells = _cells(answers[metric])
        lines.append(f"| {name} | " + " | ".join(cells[arm] for arm in ARMS) + " |")
    return "\n".join(lines)


def _cells(found: Study) -> dict[str, str]:
    (finding,) = found.findings
    names = _arms_by_label(found)
    cells = {names[finding.baseline.label]: f"{finding.baseline.mean:.3f}"}
    for each in finding.contrasts:
        mark = _MARKS.get(each.verdict, "")
        cells[names[each.arm.label]] = f"{each.arm.mean:.3f}{mark}"
    return cells


def _arms_by_label(found: Study) -> dict[str, str]:
    return {arm.label: arm_of(arm.configuration) for arm in found.data_sets[0].arms}


def data() -> str:
    """The data of each study: rate of positives, training rows, test positives."""
    lines = ["| study | rate of positives | training rows | test positives |", "|---|---|---|---|"]
    for name, study in kept([*SETS, *VARIANTS]).items():
        run = runs_of(study)[0]
        train, _, test = map(int, run.tags["rarelab.rows"].split("/"))
        rate = run.metrics["test/prevalence"]
        lines.append(f"| {name} | {rate:.2%} | {train:,} | {round(rate * test):,} |")
    return "\n".join(lines)


def calibration() -> str:
    """Expected calibration error in thousandths, raw and after Platt scaling."""
    lines = [
        "| | " + " | ".join(f"`{_NAMES.get(arm, arm)}`" for arm in ARMS) + " |",
        "|---" * (len(ARMS) + 1) + "|",
    ]
    for name, study in kept(SETS).items():
        cells = []
        for arm in ARMS:
            runs = [run for run in runs_of(study) if arm_of(run.params) == arm]
            raw, fitted = (
                fmean(run.metrics[key] for run in runs)
                for key in ("test/ece", "test/calibrated/ece")
            )
            cells.append(f"{1000 * raw:.1f} → {1000 * fitted:.1f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def over_data_sets(metric: str) -> Across | None:
    """Friedman's test and ranks across data sets; an arm is a loss, whatever its tuned settings."""
    runs = [_bare(name, run) for name, study in kept(SETS).items() for run in runs_of(study)]
    return across(group(runs, metric), metric)


def _bare(name: str, run: Run) -> Run:
    params = {"dataset": name, "model": "any", "loss": arm_of(run.params)}
    params["seed"] = run.params["seed"]
    return replace(run, params=params, run_id=f"{name} {run.run_id}")


def ranks(metric: str) -> str:
    """The result across data sets, with its figure."""
    found = over_data_sets(metric)
    told = words.across(found, ALPHA) or ["one data set has runs: nothing to rank over"]
    if found is not None:
        told = [*told, f"![average ranks across the data sets](../experiments/{PICTURE.name})"]
    return "\n".join(f"- {line}" for line in told)


def verdicts(metric: str) -> list[tuple[str, str, Contrast]]:
    """Study, arm and contrast of every comparison with BCE, alternative splits included."""
    found = []
    for name, study in kept([*SETS, *VARIANTS]).items():
        answer = next(a for a in answers_of(study) if a.question.metric == metric)
        names = _arms_by_label(answer)
        found += [(name, names[c.arm.label], c) for c in answer.findings[0].contrasts]
    return found


def answer() -> str:
    """The verdicts in sentences: losses first, then boosting."""
    lines = []
    for metric, words_for in _METRICS.items():
        told = [each for each in verdicts(metric) if each[1] != BOOSTING]
        studies = len({name for name, _, _ in told})
        better, worse = _some(told, BETTER), _some(told, WORSE)
        lines.append(
            f"- **{words_for}**, six losses against BCE in {studies} "
            f"{'study' if studies == 1 else 'studies'}: better: {better}; worse: {worse}; "
            f"{_counted(told)}."
        )
        name, arm, best = max(
            (each for each in told if each[1] in RANKING), key=lambda each: _gain(each[2])
        )
        lines.append(
            f"  The largest mean gain of any ranking loss is {_gain(best):+.3f} "
            f"(`{arm}`, {name}: {best.verdict})."
        )
    boosting = [each for each in verdicts("test/aucpr") if each[1] == BOOSTING]
    better, worse = _some(boosting, BETTER, arms=False), _some(boosting, WORSE, arms=False)
    lines.append(
        f"- **Boosting**, AUCPR against the network with BCE: better: {better}; worse: {worse}."
    )
    return "\n".join(lines)


def _gain(contrast: Contrast) -> float:
    return contrast.test.difference if contrast.test else float("-inf")


def _some(told: Sequence[tuple[str, str, Contrast]], verdict: str, *, arms: bool = True) -> str:
    named = [
        f"`{_NAMES.get(arm, arm)}` on {name}" if arms else f"on {name}"
        for name, arm, contrast in told
        if contrast.verdict == verdict
    ]
    return ", ".join(named) or "none"


def _counted(told: Sequence[tuple[str, str, Contrast]]) -> str:
    found = [contrast.verdict for _, _, contrast in told]
    shown = [verdict for verdict in (EQUAL, NOT_SETTLED) if verdict in found]
    return "; ".join(f"{verdict}: {found.count(verdict)} of {len(found)}" for verdict in shown)


def counts() -> str:
    """How often each arm got each verdict against BCE, over all studies."""
    shown = (BETTER, WORSE, EQUAL, NOT_SETTLED)
    lines = [f"| | {' | '.join(shown)} |", "|---" * (1 + len(shown)) + "|"]
    found = verdicts("test/aucpr")
    for arm in ARMS[1:]:
        told = [contrast.verdict for _, name, contrast in found if name == arm]
        counted = " | ".join(str(told.count(verdict)) for verdict in shown)
        lines.append(f"| `{_NAMES.get(arm, arm)}` | {counted} |")
    return "\n".join(lines)


def completed(study: KeptStudy) -> list[dict[str, str]]:
    """The trials of a study's searches that were trained to the end."""
    with (study.folder / "trials.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["status"] == "done"]


def moved() -> str:
    """The spread of the trials in BCE's search, and of the best trials of all losses."""
    lines = [
        "| validation AUCPR | completed trials of BCE | best trial of each loss |",
        "|---|---|---|",
    ]
    for name, study in kept([*SETS, *VARIANTS]).items():
        values: dict[str, list[float]] = {arm: [] for arm in ARMS}
        for row in completed(study):
            values[row["arm"]].append(float(row["value"]))
        tops = [max(values[arm]) for arm in ARMS if arm != BOOSTING]
        lines.append(
            f"| {name} | {min(values['bce']):.3f} to {max(values['bce']):.3f} "
            f"| {min(tops):.3f} to {max(tops):.3f} |"
        )
    return "\n".join(lines)


def mixture() -> str:
    """The best validation AUCPR of trials with only the ranking loss, and with half BCE."""
    key = "schedule.final_main_weight="
    lines = ["| best validation AUCPR of completed trials | alone | half BCE |", "|---|---|---|"]
    halves = 0
    for name, study in kept([*SETS, *VARIANTS]).items():
        rows = completed(study)
        for arm in RANKING:
            own = [row for row in rows if row["arm"] == arm]
            of = {
                weight: [float(row["value"]) for row in own if has(row, key + weight)]
                for weight in ("1.0", "0.5")
            }
            alone, half = (f"{max(v):.3f} of {len(v)}" if v else "-" for v in of.values())
            lines.append(f"| {name}, `{arm}` | {alone} | {half} |")
            halves += has(max(own, key=lambda row: float(row["value"])), f"{key}0.5")
    told = f"{halves} of the {len(lines) - 2} searches chose the mix."
    return "\n".join([*lines, "", told])


def has(row: Mapping[str, str], override: str) -> bool:
    return override in row["values"].split()


def in_short() -> str:
    """The answer in two sentences."""
    found = verdicts("test/aucpr")
    losses = [contrast.verdict for _, arm, contrast in found if arm != BOOSTING]
    boosting = [contrast.verdict for _, arm, contrast in found if arm == BOOSTING]
    return (
        f"Six losses against BCE, each tuned with the same small search, on {len(kept(SETS))} real "
        f"data sets in {len(boosting)} settings:\nof {len(losses)} comparisons of test AUCPR, "
        f"{losses.count(BETTER)} are better, {losses.count(WORSE)} worse, "
        f"{losses.count(EQUAL)} practically equal (less\nthan 0.01 apart) and "
        f"{losses.count(NOT_SETTLED)} not settled.\nBoosting is better than the network with BCE "
        f"in {boosting.count(BETTER)} of the {len(boosting)} settings and worse in "
        f"{boosting.count(WORSE)}."
    )


def sections() -> dict[Path, dict[str, str]]:
    """The generated parts of each page, by marker."""
    own = {
        "answer": answer(),
        "counts": counts(),
        "data": data(),
        "aucpr": table("test/aucpr"),
        "recall 0.005": table("test/recall_at_q/0.005"),
        "recall 0.01": table("test/recall_at_q/0.01"),
        "ranks": ranks("test/aucpr"),
        "calibration": calibration(),
        "moved": moved(),
        "mixture": mixture(),
    }
    return {PAGE: own, README: {"studies": in_short()}}


def main() -> None:
    for page, parts in sections().items():
        fill(page, parts)
    draw(over_data_sets("test/aucpr"))


def draw(found: Across | None, path: Path = PICTURE) -> None:
    """Draw the ranks; a figure of the same ranks is kept, since redrawing may change its bytes."""
    if found is None or found.post_hoc is None:
        return
    shown = f"{found.ranks} {found.post_hoc.round(12).to_csv()}"
    if drawn_from(path) != shown:
        picture = effects.critical_difference(found.ranks, found.post_hoc, ALPHA, found.data_sets)
        picture.savefig(path, dpi=110, metadata={DIGEST: shown})


if __name__ == "__main__":
    main()
