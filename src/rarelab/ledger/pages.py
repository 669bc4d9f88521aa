"""Everything computed from the committed runs: verdicts, tables, a figure, the pages."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from rarelab.compare import effects, tables, words
from rarelab.compare.contrast import BETTER, EQUAL, WORSE, Finding, by_difference
from rarelab.compare.gallery import numbers_over
from rarelab.compare.pairs import SPLITS
from rarelab.compare.study import Study
from rarelab.errors import RarelabError
from rarelab.ledger.study import RUNS, Comparison, KeptStudy
from rarelab.records.searched import TRIALS

VERDICT, TABLE, FIGURE, README = "verdict.md", "verdict.csv", "figure.png", "README.md"
LEDGER, END = "ledger: made by `make report`", "<!-- end -->"
DIGEST = "rarelab"
"""PNG text chunk with the digest of the runs and the question a figure was drawn from."""

_SHOWN = {BETTER: " better", WORSE: " worse", EQUAL: " equal"}


def write_study(study: KeptStudy) -> None:
    """Write the verdicts, their table and the figure of one study.

    A figure already drawn from the same runs is kept: another matplotlib draws other bytes.
    """
    found = study.answers()
    (study.folder / VERDICT).write_text(verdict(study, found), encoding="utf-8")
    (study.folder / TABLE).write_text(table(found), encoding="utf-8")
    if drawn_from(study.folder / FIGURE) != digest(study):
        picture = figure(found[0], study.comparisons[0])
        picture.savefig(study.folder / FIGURE, dpi=110, metadata={DIGEST: digest(study)})


def write_readme(folder: Path, studies: Sequence[KeptStudy]) -> None:
    """Write the generated part of the ledger; the text around it is kept."""
    path = folder / README
    if not path.is_file():
        path.write_text(f"# Studies\n\n<!-- {LEDGER} -->\n{END}\n", encoding="utf-8")
    fill(path, {LEDGER: ledger(studies)})


def fill(page: Path, parts: Mapping[str, str]) -> None:
    """Replace the marked parts of a page, each from ``<!-- name -->`` to ``<!-- end -->``; the text
    around them is kept.

    Raises:
        RarelabError: the page has no such mark.
    """
    text = page.read_text(encoding="utf-8")
    for name, content in parts.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        if not mark:
            raise RarelabError(f"{page.name}: there is no mark <!-- {name} -->")
        text = f"{before}{mark}{content}\n{END}{rest.partition(END)[2]}"
    page.write_text(text, encoding="utf-8")


def drawn_from(path: Path) -> str | None:
    """The digest stored in a figure; None if the figure or the digest is missing."""
    if not path.is_file():
        return None
    with Image.open(path) as picture:
        return picture.info.get(DIGEST)


def digest(study: KeptStudy) -> str:
    """SHA-256 (hex) of the runs and the comparison that the figure shows."""
    text = f"{study.comparisons[0]}\n{(study.folder / RUNS).read_text(encoding='utf-8')}"
    return hashlib.sha256(text.encode()).hexdigest()


def figure(found: Study, asked: Comparison) -> Figure:
    """The metric against a swept number if the study names one, else the differences."""
    if asked.figure is None:
        return effects.panels_of_differences(found.findings)
    points = numbers_over(found.runs, asked.figure, asked.metric)
    return effects.sensitivity(asked.figure, points, asked.metric)


def verdict(study: KeptStudy, found: Sequence[Study]) -> str:
    """Every comparison in words and numbers."""
    parts = [f"# {study.name}\n\n{study.header['Question']}\n"]
    for asked, answer in zip(study.comparisons, found, strict=True):
        parts.append(f"## {asked.metric}\n\n`{asked.command(study.experiment)}`\n")
        told = words.across(answer.across, answer.question.alpha)
        parts.append(tables.as_page(answer) + "".join(f"\n{line}\n" for line in told))
    return "\n".join(parts)


def table(found: Sequence[Study]) -> str:
    """All comparisons as one CSV, unrounded."""
    return tables.records_as_csv([record for answer in found for record in tables.flat(answer)])


def ledger(studies: Sequence[KeptStudy]) -> str:
    """A table with one line per study, then one section per study."""
    lines = ["| question | verdict | made |", "|---|---|---|"]
    lines += [
        f"| [{study.name}](#{study.name}): {study.header['Question']} "
        f"| {study.header.get('Result') or _headlines(study)} | {_made(study)} |"
        for study in studies
    ]
    lines += ["", f"All studies: {sum(map(_minutes, studies)):.0f} min on two cores.", ""]
    return "\n".join([*lines, *map(_section, studies)])


def _headlines(study: KeptStudy) -> str:
    """The verdict of a study whose header has no ``Result`` yet."""
    return "; ".join(words.headline(finding) for finding in study.answers()[0].findings)


def _made(study: KeptStudy) -> str:
    facts = study.environment()
    commits = ", ".join(f"`{commit[:7]}`" for commit in facts["commits"])
    trials = f" and {facts['trials']} trials" if "trials" in facts else ""
    return f"{facts['date']}, {commits}, {facts['jobs']} runs{trials}, {_minutes(study):.0f} min"


def _minutes(study: KeptStudy) -> float:
    return study.environment()["seconds"] / 60 / 2


def _section(study: KeptStudy) -> str:
    found, asked = study.answers()[0], study.comparisons[0]
    parts = [
        f"### {study.name}\n",
        f"`make studies STUDY={study.name}` · {asked.metric} against {found.question.baseline}, "
        f"means over {_pairs(found.findings)}{_search(found)}\n",
        *_tables(found, asked),
    ]
    parts.append(
        f"\n![{study.name}: {asked.metric}]({study.name}/{FIGURE})\n\n"
        f"[all verdicts]({study.name}/{VERDICT}) · [as a table]({study.name}/{TABLE}) · "
        f"[the runs]({study.name}/{RUNS})\n"
    )
    return "\n".join(parts)


def _tables(found: Study, asked: Comparison) -> list[str]:
    """One table per metric, arms by data sets; for one data set a single table, arms by metrics."""
    columns = {asked.metric: [_judged(finding) for finding in found.findings]}
    columns |= {metric: _means(found, metric) for metric in asked.also}
    first, *more = found.findings
    arms = [first.baseline.label]
    arms += dict.fromkeys(c.arm.label for f in found.findings for c in by_difference(f.contrasts))
    if not more:
        return [_table(arms, list(columns), [cells[0] for cells in columns.values()])]
    data = [finding.data for finding in found.findings]
    tables = [_table(arms, data, cells) for cells in columns.values()]
    told = [f"\n{metric}, means\n" for metric in asked.also]
    return [tables[0], *(part for pair in zip(told, tables[1:], strict=True) for part in pair)]


def _means(found: Study, metric: str) -> list[dict[str, str]]:
    """For each data set the mean of an additional metric, by arm."""
    return [
        {
            arm.label: words.number(
                float(np.mean([run.metrics.get(metric, np.nan) for run in arm.runs.values()]))
            )
            for data in found.data_sets
            for arm in data.arms
            if data.label == finding.data and arm.runs
        }
        for finding in found.findings
    ]


def _judged(finding: Finding) -> dict[str, str]:
    """By arm, the mean and the verdict."""
    base = {finding.baseline.label: words.number(finding.baseline.mean)}
    return base | {
        c.arm.label: words.number(c.arm.mean) + _SHOWN.get(c.verdict, "") for c in finding.contrasts
    }


def _pairs(findings: Sequence[Finding]) -> str:
    found = sorted({c.test.n for f in findings for c in f.contrasts if c.test is not None})
    count = f"{found[0]} to {found[-1]}" if len(found) > 1 else str(found[0])
    return f"{count} {'splits' if findings[0].varied == SPLITS else 'paired seeds'}"


def _search(found: Study) -> str:
    """How the arms of a contest got their values."""
    tried = {run.searched.get(TRIALS) for run in found.runs if run.searched}
    told = "{} trials of each arm on each split chose its values".format
    return f", {told(' or '.join(sorted(map(str, tried))))}" if tried else ""


def _table(arms: Sequence[str], columns: Sequence[str], cells: Sequence[dict[str, str]]) -> str:
    lines = [["arm", *columns], ["---"] * (1 + len(columns))]
    lines += [[arm, *(found.get(arm, "-") for found in cells)] for arm in arms]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
