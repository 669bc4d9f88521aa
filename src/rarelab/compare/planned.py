"""Arms that a sweep planned and that no run shows yet: verdicts are corrected for those that do."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rarelab.compare.arms import DataSet
from rarelab.compare.contrast import Finding
from rarelab.records.load import Records, Run
from rarelab.records.names import labels

PLANNED = "arms.json"
"""The file of a sweep's own run: the signature and the parameters of each of its jobs."""

_SHOWN = 4
_SIGNATURE = "rarelab.signature"


def planned(records: Records, experiment: str, runs: Sequence[Run]) -> list[Run]:
    """The jobs of the sweeps that planned any of these runs, as runs without a result.

    A sweep that has left no run belongs to another question, or was given up. Sweeps recorded
    before plans were kept, and searches, which have none, are left out.
    """
    known = {run.tags.get(_SIGNATURE) for run in runs}
    jobs: list[Run] = []
    for parent in records.parents(experiment):
        path = records.file(parent, PLANNED)
        plan = json.loads(path.read_text(encoding="utf-8")) if path is not None else []
        if known & {job["signature"] for job in plan}:
            jobs += [_job(parent, job["signature"], job["parameters"]) for job in plan]
    return [replace(job, within=runs[0].within) for job in jobs]


def with_plan(finding: Finding, data: DataSet, jobs: Sequence[Run]) -> Finding:
    """The finding, with a note if arms planned on its data have no usable run."""
    usable = {run.tags.get(_SIGNATURE) for arm in data.arms for run in arm.runs.values()}
    here = [job.data for job in jobs if job.tags[_SIGNATURE] in usable]
    own = [job for job in jobs if job.data in here]
    signatures: dict[str, set[str]] = defaultdict(set)
    for job, label in zip(own, labels([job.arm for job in own]), strict=True):
        signatures[label].add(job.tags[_SIGNATURE])
    missing = sorted(label for label, of_arm in signatures.items() if not of_arm & usable)
    if not missing:
        return finding
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    note = (
        f"{len(signatures) - len(missing)} of {len(signatures)} planned arms have usable runs; the "
        f"verdicts are corrected for the {finding.comparisons} compared with "
        f"{finding.baseline.label}, not for {', '.join(missing[:_SHOWN])}{more}"
    )
    return replace(finding, notes=[*finding.notes, note])


def _job(parent: Run, signature: str, parameters: Mapping[str, str]) -> Run:
    return replace(
        parent,
        run_id="",
        params=parameters,
        tags={_SIGNATURE: signature},
        metrics={},
        status="planned",
    )
