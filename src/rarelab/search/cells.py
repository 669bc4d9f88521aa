"""What a contest searches: for each arm on each split, its fixed overrides and its own space."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from rarelab.config.groups import first_key
from rarelab.errors import RequestError, nearest
from rarelab.search.space import SEED, Dimension, read_dimension
from rarelab.sweep.overrides import ArmRequest, as_meant, grid, key_of, requested
from rarelab.sweep.settings import Settings


@dataclass(frozen=True)
class Cell:
    """An arm on a split: what is searched on its own.

    Args:
        lines: the overrides of all of its runs.
        dimensions: what is searched; may be empty.
        chosen_from: the spaces as they were written, by key.
        seeds: ``seed=0``, ... of the study; empty for the configured one.
    """

    lines: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    chosen_from: Mapping[str, str]
    seeds: tuple[str, ...]

    @property
    def data(self) -> tuple[str, ...]:
        """The overrides that choose and split the data."""
        return tuple(line for line in self.lines if first_key(key_of(line)) == "dataset")

    @property
    def arm(self) -> tuple[Any, ...]:
        """What it shares with the cells of the same arm on other splits."""
        return tuple(line for line in self.lines if line not in self.data), self.dimensions


def read_cells(
    parser: OverridesParser,
    study: Mapping[str, Any],
    arguments: Sequence[str],
    settings: Settings,
) -> list[Cell]:
    """The cells of a request: arms x everything swept but the seed.

    An arm's space is that of all arms (``sweep.search.space``) without the keys that the arm or the
    command line sets; then that of ``sweep.search.space`` for arms like it; then the swept values
    among its own overrides (``sweep.arms``). Where a key is in several, the last counts. What the
    command line sets is never searched.

    Raises:
        RequestError: a space that cannot be searched, one of an arm that does not exist, or none.
    """
    spaces = _Spaces(parser, settings.contest.space or {})
    merged: dict[tuple[Any, ...], Cell] = {}
    for request in requested(parser, study, arguments, settings):
        for cell in _cells(request, spaces):
            known = merged.get((cell.lines, cell.dimensions))
            seeds = (*(known.seeds if known else ()), *cell.seeds)
            merged[cell.lines, cell.dimensions] = Cell(
                cell.lines, cell.dimensions, cell.chosen_from, tuple(dict.fromkeys(seeds))
            )
    if not any(line.startswith("sweep.arms=") for line in arguments):
        spaces.refuse_unused()
    if not any(cell.dimensions for cell in merged.values()):
        raise RequestError(
            "sweep.search.space: a contest needs something to choose, for example "
            '{optimizer.lr: "tag(log,interval(0.0005,0.02))"}'
        )
    return list(merged.values())


class _Spaces:
    """``sweep.search.space``: of all arms, and by an override of some."""

    def __init__(self, parser: OverridesParser, given: Mapping[str, Any]) -> None:
        nested = {key: space for key, space in given.items() if isinstance(space, Mapping)}
        plain = {key: space for key, space in given.items() if key not in nested}
        self.common = _parsed(parser, plain)
        self._of_some = {key: _parsed(parser, space) for key, space in nested.items()}
        self._seen: set[str] = set()

    def of(self, lines: Iterable[str]) -> dict[str, Override | None]:
        """The keys searched by arms with one of these overrides; None: not searched by them."""
        lines = list(lines)
        self._seen |= {*lines}
        return {
            key: space
            for line, spaces in self._of_some.items()
            if line in lines
            for key, space in spaces.items()
        }

    def refuse_unused(self) -> None:
        for line in self._of_some.keys() - self._seen:
            raise RequestError(
                f"sweep.search.space: {line}: no arm has this override; {nearest(line, self._seen)}"
            )


def _parsed(parser: OverridesParser, space: Mapping[str, Any]) -> dict[str, Override | None]:
    found: dict[str, Override | None] = {}
    for key, text in space.items():
        name = key_of(str(key))
        if name == SEED:
            raise RequestError("sweep.search.space: the seed of the trials is sweep.search.seed")
        found[name] = None
        if text is not None:
            (found[name],) = parser.parse_overrides([as_meant(f"{key}={text}")])
    return found


def _cells(request: ArmRequest, spaces: _Spaces) -> Iterable[Cell]:
    own: dict[str, Override | None] = {}
    rest: list[Override] = []
    seeds: list[Override] = []
    for override in request.overrides:
        key = override.key_or_group
        if key == SEED:
            seeds.append(override)
        elif key in request.own and override.is_sweep_override():
            own[key] = override
        else:
            rest.append(override)
    seed_lines = tuple(line for override in seeds for (line,) in grid([override]))
    for lines in grid(rest):
        given = {key_of(line) for line in lines}
        common = {key: space for key, space in spaces.common.items() if key not in given}
        of_some = {k: space for k, space in spaces.of(lines).items() if k not in request.typed}
        space = common | of_some | own
        searched = {key: override for key, override in space.items() if override is not None}
        yield Cell(
            tuple(line for line in lines if key_of(line) not in searched),
            tuple(map(read_dimension, searched.values())),
            {key: (o.input_line or "").partition("=")[2] for key, o in searched.items()},
            seed_lines,
        )
