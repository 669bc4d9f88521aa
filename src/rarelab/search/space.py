"""The space of a search, read from the command line in Hydra's sweep syntax."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from rarelab.errors import RequestError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SEED = "seed"
"""The one swept key that is not searched: a trial's value is its mean over the seeds."""

_TAGS = {"log"}


@dataclass(frozen=True)
class Choice:
    """One of a few values, each the text of an override's right-hand side."""

    key: str
    options: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.key}: {' | '.join(self.options)}"

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.options)

    def at(self, share: float) -> str:
        """The option at a share, from 0 to below 1, of the way from the first to the last."""
        return self.options[int(share * len(self.options))]

    def corners(self) -> list[str]:
        """The values to check before a search: all of them."""
        return [f"{self.key}={option}" for option in self.options]

    def override(self, value: Any) -> str:
        return f"{self.key}={value}"


@dataclass(frozen=True)
class Numbers:
    """Numbers from ``low`` to ``high``, both included; integers if both bounds are.

    ``step`` None means continuous (every integer for integers); ``log`` searches on a log scale.
    """

    key: str
    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    def __str__(self) -> str:
        step = f" in steps of {self.step:g}" if self.step else ""
        kind = "whole numbers" if self.whole else "numbers"
        scale = ", logarithmic" if self.log else ""
        return f"{self.key}: {kind} from {self.low:g} to {self.high:g}{step}{scale}"

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(
                int(self.low), int(self.high), log=self.log, step=int(self.step or 1)
            )
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def check(self) -> None:
        """ValueError if there are no such numbers."""
        if self.low > self.high:
            raise ValueError(f"expected the lower end first, found {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale takes numbers above 0, found {self.low:g}")

    def at(self, share: float) -> int | float:
        """The number at a share, from 0 to below 1, of the way from low to high on their scale."""
        if not self.whole and self.step is None:
            return _between(self.low, self.high, share, log=self.log)
        step = self.step or 1
        if self.log:  # whole numbers: k has the width from k - 1/2 to k + 1/2
            found = round(_between(self.low - 0.5, self.high + 0.5, share, log=True))
            return min(max(found, int(self.low)), int(self.high))
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        found = self.low + int(share * count) * step
        return found if self.whole else float(f"{found:.12g}")

    def corners(self) -> list[str]:
        """The values to check before a search: both ends."""
        return [self.override(self.low), self.override(self.high)]

    def override(self, value: Any) -> str:
        """Continuous values are rounded to four digits, so that a displayed value can be retyped
        exactly."""
        if self.step is None and not self.whole:
            value = min(max(float(f"{value:.4g}"), self.low), self.high)
        return f"{self.key}={value!r}"


Dimension = Choice | Numbers


def _between(low: float, high: float, share: float, *, log: bool) -> float:
    return low * (high / low) ** share if log else low + (high - low) * share


@dataclass(frozen=True)
class Space:
    """A search's dimensions, the seeds of every trial, and the overrides shared by all trials."""

    dimensions: tuple[Dimension, ...]
    seeds: tuple[str, ...]
    fixed: tuple[str, ...]

    def distributions(self) -> dict[str, "BaseDistribution"]:
        return {dimension.key: dimension.distribution() for dimension in self.dimensions}

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """The overrides of one trial, in command-line order."""
        return [dimension.override(values[dimension.key]) for dimension in self.dimensions]

    def corners(self) -> list[list[str]]:
        """The trials to check before a search: each choice and each end, with all other dimensions
        at their first value."""
        first = [dimension.corners()[0] for dimension in self.dimensions]
        found = [first]
        for place, dimension in enumerate(self.dimensions):
            found += [
                [*first[:place], corner, *first[place + 1 :]] for corner in dimension.corners()[1:]
            ]
        return found


def read_space(overrides: Iterable[Override]) -> Space:
    """The space described by parsed overrides.

    ``a,b`` and ``choice(...)`` are choices; ``range(a, b, step)`` has the values of Hydra's grid
    (``b`` excluded); ``interval(a, b)`` is continuous with both ends included, and
    ``int(interval(a, b))`` its integers; ``tag(log, ...)`` searches on a log scale. ``seed`` is not
    searched: its values are repetitions, and a trial's value is their mean.

    Raises:
        RequestError: nothing is swept, or a dimension cannot be searched as written.
    """
    dimensions, fixed, seeds = [], [], ()
    for override in overrides:
        key = override.get_key_element()
        if key == SEED and override.is_discrete_sweep():
            seeds = tuple(dict.fromkeys(override.sweep_string_iterator()))
            if not seeds:
                raise RequestError(f"{override.input_line}: expected at least one seed, found none")
        elif override.is_sweep_override():
            dimensions.append(read_dimension(override))
        else:
            fixed.append(override.input_line or "")
    if not dimensions:
        raise RequestError(
            "a search needs something to choose: key=choice(a,b), key=range(1,5), "
            "key=interval(0.1,1) or key=tag(log,interval(1e-4,1e-1)); seed= only adds repetitions"
        )
    return Space(tuple(dimensions), seeds, tuple(fixed))


def read_dimension(override: Override) -> Dimension:
    """What one override searches.

    Raises:
        RequestError: it gives a single value, or cannot be searched as written.
    """
    key, sweep = override.get_key_element(), override.value()
    if not override.is_sweep_override():
        raise RequestError(
            f"{override.input_line}: expected what to choose from, for example a,b, range(1,5) or "
            "tag(log,interval(0.001,0.1))"
        )
    tags = set(getattr(sweep, "tags", ()))
    log = "log" in tags
    if key == SEED or tags - _TAGS or (override.is_choice_sweep() and log):
        raise RequestError(
            f"{override.input_line}: cannot be searched; seed takes a list or range(...), and "
            "range(...) and interval(...) may carry the tag log"
        )
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None and sweep.end is not None
        dimension = Numbers(key, sweep.start, sweep.end, log=log)
    elif isinstance(sweep, RangeSweep):
        visited = list(sweep.range())
        if not visited:
            raise RequestError(f"{override.input_line}: the range is empty")
        low, high = min(visited), max(visited)
        dimension = Numbers(key, low, high, step=None if log else abs(sweep.step), log=log)
    else:
        return Choice(key, tuple(override.sweep_string_iterator()))
    try:
        dimension.check()
    except ValueError as error:
        raise RequestError(f"{override.input_line}: {error}") from None
    return dimension
