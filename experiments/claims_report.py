"""Published claims beside our reruns: the marked parts of docs/claims.md.

    python experiments/claims_report.py

needs only the committed CSVs of the studies claim_NAME.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from scipy.stats import wilcoxon

from rarelab.compare.contrast import BETTER, EQUAL, WORSE, Contrast, Finding
from rarelab.compare.words import number
from rarelab.ledger.pages import fill
from rarelab.ledger.study import KeptStudy

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "claims.md"

PUBLISHED = {"linear": (0.864, 0.880), "product": (0.575, 0.791), "radial": (0.426, 0.638)}
"""Recall in the top 0.5 % by cue: cross-entropy, as published with a weight, and partial AUC."""
BY_TREES = {
    "abalone20": (0.028, 0.078, 0.058, 0.042),
    "abalone17": (0.065, 0.068, 0.079, 0.068),
    "yeast6": (0.642, 0.656, 0.609, 0.484),
    "wine4": (0.103, 0.095, 0.123, 0.118),
    "libras": (0.817, 0.851, 0.830, 0.759),
    "pageblocks": (0.927, 0.913, 0.934, 0.915),
    "yeast3": (0.809, 0.832, 0.814, 0.768),
    "abalone8": (0.238, 0.325, 0.327, 0.309),
    "segmentation": (0.953, 0.951, 0.982, 0.941),
}
"""Mean test AP over 20 splits of ForestEntropy, MetaAPForest, XGBRanker, SGBAP, from the files in
results/ of the authors' repository."""
ALONE = "final_main_weight=1"
"""In the label of the arm that is trained on Smooth-AP from the first tree."""
MARKS = {BETTER: " **+**", WORSE: " **-**", EQUAL: " ="}


def partial_auc() -> str:
    """Means by cue, and the differences to both kinds of cross-entropy with their verdicts."""
    study = KeptStudy(HERE / "claim_partial_auc.yaml")
    weighted, plain = study.answers()[:2]
    lines = [
        "| cue | published: weighted CE | partial AUC | here: weighted BCE | partial AUC, weighted "
        "warmup | BCE | partial AUC, BCE warmup |",
        "|---|---|---|---|---|---|---|",
    ]
    for cue, (before, after) in PUBLISHED.items():
        of_weighted, of_plain = (_finding(found.findings, cue) for found in (weighted, plain))
        first = _arm(of_weighted, "warmup_loss=weighted_bce")
        second = _arm(of_plain, "warmup_loss=bce")
        lines.append(
            f"| {cue} | {before:.3f} | {after:.3f} ({after - before:+.3f}) "
            f"| {of_weighted.baseline.mean:.3f} | {_cell(first)} "
            f"| {of_plain.baseline.mean:.3f} | {_cell(second)} |"
        )
    return "\n".join(lines)


def molecules() -> str:
    """Means by data set, and the differences to cross-entropy with their verdicts."""
    study = KeptStudy(HERE / "claim_molecules.yaml")
    lines = ["| | cross-entropy | SOAP | Smooth-AP |", "|---|---|---|---|"]
    for finding in study.answers()[0].findings:
        cells = [_cell(_arm(finding, f"loss={loss}")) for loss in ("soap", "smooth_ap")]
        name = finding.data.split()[0].rpartition("=")[2]
        lines.append(f"| {name} | {finding.baseline.mean:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def boosting() -> str:
    """The published means by table, and ours on log-loss, with the differences to that."""
    with (HERE / "claim_boosting" / "result.csv").open(newline="", encoding="utf-8") as file:
        kept = list(csv.DictReader(file))
    lines = [
        "| | positives | published: forest | forest by AP | boosting, pairs | boosting, AP "
        "| here: LightGBM, log-loss | Smooth-AP blended in | Smooth-AP alone |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, published in BY_TREES.items():
        base, blended, alone = (
            next(row for row in kept if row["table"] == name and of(row)) for of in _ARMS
        )
        told = " | ".join(f"{value:.3f}" for value in published)
        ours = f"{float(base['aucpr']):.3f} | {_row(blended)} | {_row(alone)}"
        lines.append(f"| {name} | {base['positives']} | {told} | {ours} |")
    lines.append("")
    for name, of in (("Smooth-AP blended in", _ARMS[1]), ("Smooth-AP alone", _ARMS[2])):
        gains = [float(row["difference"]) for row in kept if of(row)]
        _, p = wilcoxon(gains)
        lines.append(
            f"- **{name}**: ahead on {sum(gain > 0 for gain in gains)} of {len(gains)}, mean "
            f"{fmean(gains):+.4f}, signed-rank test over the tables p = {p:.2g}."
        )
    return "\n".join(lines)


_ARMS = (
    lambda row: row["verdict"] == "baseline",
    lambda row: "smooth_ap" in row["arm"] and ALONE not in row["arm"].split(),
    lambda row: ALONE in row["arm"].split(),
)


def _row(row: Mapping[str, str]) -> str:
    difference = number(float(row["difference"]), signed=True)
    return f"{float(row['aucpr']):.3f} ({difference}{MARKS.get(row['verdict'], '')})"


def _finding(findings: Sequence[Finding], cue: str) -> Finding:
    return next(finding for finding in findings if finding.data == f"cue={cue}")


def _arm(finding: Finding, part: str) -> Contrast:
    return next(c for c in finding.contrasts if part in c.arm.label.split())


def _cell(contrast: Contrast) -> str:
    assert contrast.test is not None
    difference = number(contrast.test.difference, signed=True)
    return f"{contrast.arm.mean:.3f} ({difference}{MARKS.get(contrast.verdict, '')})"


def sections() -> dict[Path, dict[str, str]]:
    """The generated parts of each page, by marker."""
    return {PAGE: {"partial AUC": partial_auc(), "molecules": molecules(), "boosting": boosting()}}


def main() -> None:
    for page, parts in sections().items():
        fill(page, parts)


if __name__ == "__main__":
    main()
