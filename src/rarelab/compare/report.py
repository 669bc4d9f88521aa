"""The report: a folder with a self-contained HTML file and tables beside it."""

import base64
import itertools
import json
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from rarelab.compare import tables, words
from rarelab.compare.contrast import (
    BETTER,
    EQUAL,
    NOT_SETTLED,
    WORSE,
    Finding,
    by_difference,
)
from rarelab.compare.decision import best_first, counted, judged_by, listed, share, short_names
from rarelab.compare.gallery import Picture
from rarelab.compare.study import Study
from rarelab.records.load import Records
from rarelab.version import __version__

HTML = "report.html"
LATEST = "latest"
SHOWN = 12
"""Arms beyond this number appear only in the table."""

_TEMPLATE = Path(__file__).with_name("report.html")
_WORDS = {BETTER: "better", WORSE: "worse", EQUAL: "equal", NOT_SETTLED: "open"}
_DIGESTS = 6


def new_folder(home: Path, experiment: str) -> Path:
    """Create ``home/reports/EXPERIMENT/compare-N`` with the first free N, safe across processes."""
    parent = home / "reports" / (quote(experiment, safe=" ").strip(". ") or "_")
    parent.mkdir(parents=True, exist_ok=True)
    for counter in itertools.count(1):
        folder = parent / f"compare-{counter}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("itertools.count() never ends")


def point_latest(folder: Path) -> None:
    """Point the link ``latest`` beside the folder to it; an ordinary file of that name is kept."""
    link = folder.parent / LATEST
    if link.exists() and not link.is_symlink():
        return
    part = folder.parent / f".{LATEST}-{os.getpid()}"
    try:
        part.symlink_to(folder.name, target_is_directory=True)
        part.replace(link)
    except OSError:
        part.unlink(
            missing_ok=True
        )  # this file system has no links: the numbers show which is the latest


def write(
    study: Study, records: Records, pictures: Sequence[Picture], folder: Path, command: str
) -> Path:
    """Write ``report.html``, ``table.csv``, ``.json``, ``.md`` and ``.tex``, and ``groups.csv`` if
    groups were asked for; the HTML's path."""
    for suffix, text in (
        ("csv", tables.as_csv(study)),
        ("json", tables.as_json(study)),
        ("md", tables.as_markdown(study)),
        ("tex", tables.as_latex(study)),
    ):
        (folder / f"table.{suffix}").write_text(text, encoding="utf-8")
    if study.groups:
        by_group = tables.records_as_csv(tables.flat_groups(study))
        (folder / "groups.csv").write_text(by_group, encoding="utf-8")
    (folder / HTML).write_text(html(study, records, pictures, command), encoding="utf-8")
    return folder / HTML


def html(study: Study, records: Records, pictures: Sequence[Picture], command: str) -> str:
    """The report as HTML. The template escapes every name; figures are embedded as images, which
    cannot run scripts."""
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        _TEMPLATE.read_text(encoding="utf-8")
    )
    return template.render(
        study=study,
        asked=asked(study),
        answers=[
            {"data": finding.data, "kind": decision.kind, "text": decision.text}
            for finding, decision in zip(study.findings, study.decisions, strict=True)
        ],
        lead=[{"title": p.title, "source": _inline(p.svg)} for p in pictures if p.leads],
        headline=words.headline,
        sentence=words.sentence,
        varied=words.varied,
        test_names=words.test_names,
        margin=words.margin,
        percent=words.percent,
        number=words.number,
        line_monthly=lambda told: words.monthly(told, study.options.costs.currency),
        by_difference=by_difference,
        rows=tables.rows,
        header=tables.HEADER,
        shown=SHOWN,
        words=_WORDS,
        across=words.across(study.across, study.question.alpha),
        monthly=study.monthly,
        pictures=[{"title": p.title, "source": _inline(p.svg)} for p in pictures if not p.leads],
        group_title=tables.group_title,
        group_header=tables.group_header,
        group_rows=tables.group_rows,
        runs=_runs(study),
        command=command,
        commands=_commands(study),
        environments=_environments(study, records),
        digests=_digests(study),
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def asked(study: Study) -> list[tuple[str, str]]:
    """The question, as pairs of a term and what stands for it."""
    first, options = study.findings[0], study.options
    names = short_names(first)
    base = first.baseline.label
    spoken = names[base] if names[base] == base else f"{names[base]} ({base})"
    others = [names[c.arm.label] for c in best_first(first)]
    models = sorted({m for run in study.runs if (m := run.params.get("model"))})
    rows = options.costs.rows(study.share)
    alerts = "" if rows is None else f" ({counted(study.share * rows)} alerts a month)"
    budget = f"{share(study.share)} of the rows flagged{alerts}"
    if study.budget.level is None:
        budget = f"{study.budget}: {budget}"
    within = first.question.within
    positives = first.question.positives
    caught = "" if positives is None else f" ({(within or 0) * positives:.3g} caught a month)"
    equal = "" if within is None else f"; less than {within:.4g}{caught} counts as equal"
    found = [
        ("Data", "; ".join(map(_data_asked, study.findings))),
        ("Model", ", ".join(models)),
        ("Baseline", spoken),
        ("Against it", listed(others)),
        ("Judged by", f"{judged_by(study.question.metric)}{equal}"),
        ("Budget", budget),
    ]
    return [(term, text) for term, text in found if text]


def _data_asked(finding: Finding) -> str:
    noise = next((c.rows for c in finding.contrasts if c.rows), None)
    tested = f" ({noise.counts(' test rows')})" if noise else ""
    return f"{finding.data}{tested}"


def command_of(overrides: Sequence[str]) -> str:
    return shlex.join(["rarelab", "compare", *overrides])


def _inline(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()


def _runs(study: Study) -> list[dict[str, Any]]:
    used = {
        run.run_id: (data.label, arm.label)
        for data in study.data_sets
        for arm in data.arms
        for run in arm.runs.values()
    }
    base = f"{study.options.dashboard.rstrip('/')}/#/experiments/{study.experiment_id}/runs/"
    return [
        {
            "id": run.run_id,
            "link": base + run.run_id,
            "name": run.name,
            "data": used.get(run.run_id, ("", ""))[0],
            "arm": used.get(run.run_id, ("", "left out"))[1],
            "seed": "" if run.seed is None else run.seed,
            "split": "" if run.split_seed is None else run.split_seed,
            "status": run.status,
            "value": words.number(run.metrics.get(study.question.metric, float("nan"))),
        }
        for run in study.runs
    ]


def _commands(study: Study) -> list[tuple[str, int]]:
    told = (run.tags.get("rarelab.command") for run in study.runs)
    return Counter(command for command in told if command).most_common()


def _environments(study: Study, records: Records) -> list[tuple[str, int]]:
    """The distinct environments of the runs with files on this machine, most frequent first."""
    found: Counter[str] = Counter()
    for run in study.runs:
        path = records.file(run, "environment.json", download=False)
        if path is not None:
            found[_environment(json.loads(path.read_text(encoding="utf-8")))] += 1
    return found.most_common()


def _environment(facts: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    checkouts = ", ".join(
        f"commit {state['commit'][:12]}{' with changes' if state['dirty'] else ''}"
        for state in facts["checkouts"]
    )
    parts = [
        f"rarelab {facts['rarelab']}",
        f"Python {facts['python']}",
        packages,
        facts["platform"],
        f"{facts['cpu_capability']}, {facts['threads']} threads",
        facts["accelerator"] or "no accelerator",
        checkouts,
    ]
    return "; ".join(part for part in parts if part)


def _digests(study: Study) -> list[dict[str, str]]:
    rows = []
    for data in study.data_sets:
        found: dict[str, None] = defaultdict(None)
        sources: dict[str, None] = {}
        for arm in data.arms:
            for run in arm.runs.values():
                found[run.digest or "not recorded"] = None
                sources[run.tags.get("rarelab.data", "not recorded")] = None
        shown = [digest[:16] for digest in list(found)[:_DIGESTS]]
        more = f" and {len(found) - _DIGESTS} more" if len(found) > _DIGESTS else ""
        rows.append(
            {
                "data": data.label,
                "source": "; ".join(sources),
                "digests": ", ".join(shown) + more,
            }
        )
    return rows
