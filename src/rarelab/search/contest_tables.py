"""What a contest prints and writes: its plan, its trials, and what each arm chose."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rarelab.search.contest_plan import Plan, Searched
from rarelab.search.display import in_words
from rarelab.search.space import SEED
from rarelab.search.trials import Trial
from rarelab.sweep.display import arms_lines, data_line, plan_lines, shared_overrides
from rarelab.sweep.done import Standing
from rarelab.sweep.job import Result
from rarelab.sweep.overrides import key_of
from rarelab.sweep.settings import Search, Settings

FACTS = ("trial", "status", "metric", "value")


def plan_text(
    plan: Plan,
    trials: Sequence[Standing],
    runs: Sequence[Standing],
    settings: Settings,
    estimate: str,
    availability: Mapping[str, str],
) -> str:
    """The plan of a contest: arms and spaces, how many trials and runs, which are done.

    Args:
        plan: the contest.
        trials: one standing per trial.
        runs: one per run with chosen values; none before all trials have ended.
        settings: how the sweep is run.
        estimate: the expected duration, in words.
        availability: where the data is, by its identity.
    """
    search, force = settings.contest, settings.force
    expected = [job for one in plan.searched for job in one.expected()]
    done = sum(standing.found is not None for standing in [*trials, *runs])
    count = len(trials) + (len(runs) or len(expected))
    lines = [
        f"contest {plan.sweep}: {count} jobs, {0 if force else done} done, "
        f"{count if force else count - done} to run{estimate}",
        f"  {_size(plan, search)}",
    ]
    shared = [line for line in shared_overrides(expected) if key_of(line) != SEED]
    lines += [f"  all with {' '.join(shared)}"] if shared else []
    lines += arms_lines(expected)
    lines += [data_line(one, availability) for one in dict.fromkeys(job.data for job in expected)]
    lines += spaces(plan.searched)
    many = {"force": force, "all_jobs": settings.dry_run}
    lines += [f"search, {len(trials)} trials:", *plan_lines(trials, **many)]
    if not runs:
        seeds = " ".join(dict.fromkeys(s for one in plan.searched for s in one.cell.seeds))
        with_seeds = f", {seeds}" if seeds else ""
        return "\n".join([*lines, f"then {len(expected)} runs with what was chosen{with_seeds}"])
    return "\n".join([*lines, f"{len(runs)} runs with what was chosen:", *plan_lines(runs, **many)])


def _size(plan: Plan, search: Search) -> str:
    arms = len({one.cell.arm for one in plan.searched})
    splits = len({tuple(one.split.items()) for one in plan.searched})
    of_splits = f" on {splits} splits" if splits > 1 else ""
    return (
        f"{arms} arm{'s' if arms > 1 else ''}{of_splits}: {search.trials} trials each with seed "
        f"{search.seed}, the best on validation is trained"
    )


def spaces(searched: Sequence[Searched]) -> list[str]:
    """A line for each arm, and one for each of its dimensions."""
    lines: dict[str, None] = {}
    for one in searched:
        told = [f"    {dimension}" for dimension in one.cell.dimensions]
        head = f"  {one.label}"
        block = "\n".join([head, *told] if told else [f"{head}: nothing to choose"])
        lines[block] = None
    return list(lines)


def rows(
    searched: Sequence[Searched], results: Mapping[int, Result]
) -> list[tuple[Searched, Trial]]:
    """Every trial of every cell."""
    return [(one, trial) for one in searched for trial in one.rows(results)]


def chosen(
    searched: Sequence[Searched], results: Mapping[int, Result]
) -> list[tuple[Searched, Trial]]:
    """The trial that each cell chose; none for a cell whose trials all failed."""
    return [(one, trial) for one in searched if (trial := one.choice(results)) is not None]


def table(told: Sequence[tuple[Searched, Trial]]) -> Iterator[list[str]]:
    """The head and a row per trial: arm, split, number, ending, metric, value, one column per
    key. Values are the shortest text that reads back to the same number."""
    splits = list(dict.fromkeys(key for one, _ in told for key in one.split))
    keys = list(dict.fromkeys(key_of(line) for _, trial in told for line in trial.overrides))
    yield ["arm", *splits, *FACTS, *keys]
    for one, trial in told:
        values = {key_of(line): line.partition("=")[2] for line in trial.overrides}
        value = "" if trial.value is None else repr(trial.value)
        facts = [str(trial.number), trial.status, one.metric, value]
        own = [one.split.get(key, "") for key in splits]
        yield [one.label, *own, *facts, *(values.get(key, "") for key in keys)]


def write(path: Path, told: Sequence[tuple[Searched, Trial]]) -> None:
    """:func:`table` as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table(told))


def choices_text(
    searched: Sequence[Searched], results: Mapping[int, Result], trials: int | None
) -> str:
    """What each arm chose on each split, for the console, and the cells that could not choose."""
    told = chosen(searched, results)
    head, *found = table(told)
    place = head.index("value")
    hidden = {head.index("status"), head.index("metric")}
    short = [[_digits(c) if k == place else c for k, c in enumerate(row)] for row in found]
    cells = [[c for k, c in enumerate(row) if k not in hidden] for row in [head, *short]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    metrics = " or ".join(dict.fromkeys(in_words(one.metric) for one, _ in told))
    lines = [f"chosen by {metrics}, best of {trials} trials:"]
    lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    for one in searched:
        if one.choice(results) is None:
            split = " ".join(f"{key}={value}" for key, value in one.split.items())
            lines.append(f"{one.label}{f' on {split}' if split else ''}: every trial failed")
    return "\n".join(lines)


def _digits(value: str) -> str:
    return f"{float(value):.4f}" if value else "-"
