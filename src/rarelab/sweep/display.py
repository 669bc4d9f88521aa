"""A sweep's console output: the plan, a line with the progress per finished job, the table."""

import json
import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from time import monotonic

from rarelab.errors import RequestError
from rarelab.runs.console import show
from rarelab.sweep.done import Standing
from rarelab.sweep.job import Job, Result, arm_parameters

BEST = "best/val_aucpr"
_WORDS = {"done": "ok", "skipped": "skipped"}
_MANY = 40
_REPEATED = ("dataset.split_seed", "seed")


def plan_text(
    standings: Sequence[Standing],
    availability: Mapping[str, str],
    *,
    force: bool,
    estimate: str,
    all_jobs: bool,
) -> str:
    """The plan: every job, whether it is done or missing, and why an earlier run does not count.

    Args:
        standings: one per job.
        availability: where the data is, by its identity.
        force: whether finished jobs run again.
        estimate: the expected duration, in words.
        all_jobs: list all jobs; otherwise the first forty.
    """
    done = sum(standing.found is not None for standing in standings)
    to_run = len(standings) if force else len(standings) - done
    sweep = standings[0].job.sweep
    lines = [f"sweep {sweep}: {len(standings)} jobs, {done} done, {to_run} to run{estimate}"]
    shared = shared_overrides([standing.job for standing in standings])
    if shared:
        lines.append(f"  all with {' '.join(shared)}")
    lines += arms_lines([standing.job for standing in standings])
    data = dict.fromkeys(standing.job.data for standing in standings)
    lines += [data_line(identity, availability) for identity in data]
    return "\n".join([*lines, *plan_lines(standings, force=force, all_jobs=all_jobs)])


def plan_lines(standings: Sequence[Standing], *, force: bool, all_jobs: bool) -> list[str]:
    """A line per job; only the first forty unless ``all_jobs``."""
    shown = standings if all_jobs else standings[:_MANY]
    lines = [_plan_line(standing, force=force) for standing in shown]
    if len(shown) < len(standings):
        lines.append(f"  … and {len(standings) - len(shown)} more (sweep.dry_run=true lists all)")
    return lines


def arms_lines(jobs: Sequence[Job]) -> list[str]:
    """The number of arms planned on a data set and, if their seeds (or splits) are too few for a
    verdict on each of them against one baseline, the number that would do."""
    # Imports scipy, which a request that is refused should not wait for.
    from rarelab.compare.power import least_pairs
    from rarelab.compare.statistics import MIN_SPLITS

    arms: dict[str, dict[str, set[tuple[str, ...]]]] = defaultdict(lambda: defaultdict(set))
    for job in jobs:
        params = arm_parameters(job)
        unit = tuple(params.pop(key, "") for key in _REPEATED)
        arms[job.data][json.dumps(params, sort_keys=True)].add(unit)
    planned = max(map(len, arms.values()))
    if planned < 2:
        return []
    units = [found for of_data in arms.values() for found in of_data.values()]
    of_splits = max(len({split for split, _ in found}) for found in units) > 1
    key, word = ("dataset.split_seed", "splits") if of_splits else ("seed", "seeds")
    fewest = min(len({u[0] for u in found} if of_splits else found) for found in units)
    least = MIN_SPLITS if of_splits else least_pairs(planned - 1, 0.05)
    lines = [f"  {planned} arms planned, each with {fewest} {word if fewest > 1 else word[:-1]}"]
    if fewest < least:
        lines.append(
            f"  note: too few for a verdict: {planned} arms, that is {planned - 1} comparisons with"
            f" a baseline at 95 %, take at least {least} {word}: '{key}=range({least})'"
        )
    return lines


def data_line(data: str, availability: Mapping[str, str]) -> str:
    """A data set's identity and where it is."""
    where = f" ({availability[data]})" if availability.get(data) else ""
    return f"  data {textwrap.shorten(data, 100, placeholder='…')}{where}"


def _plan_line(standing: Standing, *, force: bool) -> str:
    job = standing.job
    word = "missing" if standing.found is None else "again" if force else "done"
    why = f"  ({standing.why})" if standing.why else ""
    return f"  {word:<8}{job.number:>4}  {title(job)}{why}"


def shared_overrides(jobs: Sequence[Job]) -> list[str]:
    """The overrides that all jobs have."""
    return [line for line in jobs[0].overrides if all(line in job.overrides for job in jobs)]


def title(job: Job) -> str:
    """A job's name, or all its overrides if nothing is swept."""
    return job.name or " ".join(job.overrides) or "(no overrides)"


class Progress:
    """A line per ended job: its status, counts of done, failed and left, time to go, best so far.

    Args:
        jobs: the jobs to run.
        later: the number of those that will follow, which are counted in the time to go.
    """

    def __init__(self, jobs: Sequence[Job], later: int = 0) -> None:
        self._jobs = {job.number: job for job in jobs}
        self._later = later
        self._began = monotonic()
        self._results: dict[int, Result] = {}

    def ended(self, result: Result, *, final: bool) -> None:
        """Add a result; ``final`` is false if the job will be tried again."""
        job = self._jobs[result.number]
        if result.traceback or result.failed:
            show(_failure_text(job, result))
        if not final:
            show(f"  {title(job)} will be tried again")
            return
        self._results[result.number] = result
        show(f"{self._line(job, result)}  |  {self._summary()}")

    def _line(self, job: Job, result: Result) -> str:
        value = result.metrics.get(BEST)
        shown = "" if value is None else f"  val AUCPR {value:.4f}"
        width = len(str(len(self._jobs)))
        place = f"[{len(self._results):>{width}}/{len(self._jobs)}]"
        word = _WORDS.get(result.status, result.status)
        return f"{place} {word:<8} {title(job)}{shown}  {duration(result.seconds)}"

    def _summary(self) -> str:
        failed = sum(result.failed for result in self._results.values())
        left = len(self._jobs) - len(self._results)
        parts = [f"{len(self._results) - failed} done", f"{failed} failed", f"{left} left"]
        if self._later:
            parts.append(f"{self._later} to follow")
        if left + self._later:
            pace = (monotonic() - self._began) / len(self._results)
            parts.append(f"about {duration(pace * (left + self._later))} to go")
        best = _best(self._results)
        if best is not None:
            job = self._jobs[best.number]
            parts.append(f"best val AUCPR {best.metrics[BEST]:.4f} ({title(job)})")
        return ", ".join(parts)


def _best(results: Mapping[int, Result]) -> Result | None:
    ended = [r for r in results.values() if r.status == "done" and BEST in r.metrics]
    return max(ended, key=lambda result: result.metrics[BEST], default=None)


def _failure_text(job: Job, result: Result) -> str:
    head = f"\njob {job.number} ({title(job)}): {result.status}"
    if result.status == "interrupted":
        return head
    refused = result.error == RequestError.__name__  # the line says it all
    text = result.reason if refused else result.traceback.rstrip() or result.reason
    where = f"\n  log: {result.directory}/train.log" if result.directory else ""
    return f"{head}\n{textwrap.indent(text, '  ')}{where}\n"


def closing_table(jobs: Sequence[Job], results: Mapping[int, Result]) -> str:
    """Every job's ending (ok, failed or skipped), its overrides and the reason."""
    counts = Counter(
        "failed" if result.failed else _WORDS[result.status] for result in results.values()
    )
    words = ("ok", "failed", "skipped")
    head = ", ".join(f"{counts[word]} {word}" for word in words)
    width = max(len(title(job)) for job in jobs)
    rows = [_row(job, results[job.number], width) for job in jobs]
    return "\n".join([f"\n{len(jobs)} jobs: {head}", *rows])


def _row(job: Job, result: Result, width: int) -> str:
    word = "failed" if result.failed else _WORDS[result.status]
    reason = result.reason
    if result.failed:
        reason = ": ".join(filter(None, (result.status, result.error, reason)))
    return f"  {word:<8} {title(job):<{width}}  {reason}".rstrip()


def duration(seconds: float) -> str:
    """``12 s``, ``3 min``, ``1.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
