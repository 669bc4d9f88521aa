"""Which jobs of a sweep train as one, and how they travel through a launcher of single jobs.

A batch is made of all jobs of the plan that differ only in :data:`~rarelab.config.joint.VARYING`,
done or not, so that a run's company follows from the request. Those that are missing run as one
job, which carries the others as companions; those that are done are trained along, unrecorded.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from rarelab.config.groups import batched
from rarelab.config.joint import VARYING, varying, why_alone
from rarelab.sweep.job import Job, Result

MOST = 16
"""The most runs in a batch: beyond that, larger batches gain little and hold more in memory."""


def marked(plain: dict[str, Any], batch: str) -> dict[str, Any]:
    """A job's resolved configuration, saying whether it trains in a batch."""
    alone = batch == "off" or why_alone(plain) is not None
    return {**plain, "sweep": {**plain["sweep"], "batch": "off" if alone else batch}}


def in_batches(jobs: Sequence[Job]) -> list[Job]:
    """The jobs of a plan, those that train in a batch with the values of all its runs.

    A batch of more than :data:`MOST` is divided evenly.
    """
    groups: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if batched(job.config):
            groups[_alike(job)].append(job)
    company: dict[int, tuple[dict[str, Any], ...]] = {}
    for group in groups.values():
        for part in _divided(group):
            company |= dict.fromkeys((job.number for job in part), tuple(_differing(part)))
    return [replace(job, batch=company.get(job.number, ())) for job in jobs]


def own_values(job: Job) -> dict[str, Any]:
    """The values of a batched job that tell it from the others of its batch."""
    found = varying(job.config)
    return {key: found[key] for key in job.batch[0]}


def gathered(jobs: Iterable[Job]) -> list[Job]:
    """The jobs to hand to a launcher: of each batch the first, with the others as companions."""
    groups: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        groups[f"{_alike(job)} {job.batch}" if job.batch else str(job.number)].append(job)
    return [replace(first, companions=tuple(others)) for first, *others in groups.values()]


def apart(job: Job, result: Result) -> Iterator[Result]:
    """The results of a job and its companions; they share its fate if they have none of their own,
    because the process died."""
    yield replace(result, companions=())
    known = {one.number: one for one in result.companions}
    for companion in job.companions:
        lost = replace(
            result, number=companion.number, run_id="", directory="", metrics={}, companions=()
        )
        yield known.get(companion.number, lost)


def batches_line(jobs: Sequence[Job]) -> str:
    """How many jobs train in batches, and why the others do not."""
    together = [job for job in jobs if job.batch]
    sizes = Counter(1 + len(job.companions) for job in gathered(together))
    shown = ", ".join(f"{count} of {size}" for size, count in sorted(sizes.items(), reverse=True))
    reasons = Counter(why_alone(job.config) for job in jobs if not job.batch)
    alone = [f"{count} alone: {reason}" for reason, count in reasons.items()]
    found = f"{len(together)} jobs in batches ({shown})" if together else "no job in a batch"
    return f"  sweep.batch=auto: {'; '.join([found, *alone])}"


def _divided(group: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """The jobs in as few parts of at most :data:`MOST` as possible, of nearly equal size."""
    parts = math.ceil(len(group) / MOST)
    bounds = [i * len(group) // parts for i in range(parts + 1)]
    yield from (group[start:stop] for start, stop in pairwise(bounds))


def _differing(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The values of each job under the keys in which they differ, and the seed."""
    found = [varying(job.config) for job in jobs]
    keys = [key for key in found[0] if key == "seed" or len({one[key] for one in found}) > 1]
    return [{key: one[key] for key in keys} for one in found]


def _alike(job: Job) -> str:
    """What the jobs of a batch have in common."""
    left_out = {"seed": None}
    config = {key: _without(key, value) for key, value in job.config.items()} | left_out
    facts = [config, job.tags, job.choices, job.data, job.code, job.listener is None]
    return json.dumps(facts, sort_keys=True, default=str)


def _without(group: str, leaf: Any) -> Any:
    if not isinstance(leaf, Mapping):
        return leaf
    return {key: value for key, value in leaf.items() if f"{group}.{key}" not in VARYING}
