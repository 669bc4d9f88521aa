"""From the command line to the overrides of each job: grid, arms and zip in Hydra's grammar."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Transformer
from hydra.errors import HydraException

from rarelab.config.groups import NOT_OF_A_JOB, first_key
from rarelab.errors import RequestError
from rarelab.quoting import elements, quoted
from rarelab.sweep.settings import Settings

ARMS = "sweep.arms="
SPACE = "sweep.search.space="

_COLUMNS = (
    *("target", "group", "time", "sample_weight", "amount"),
    *("drop", "categorical", "keep", "scores"),
)
_TEXTS = {
    *("dataset.path", "dataset.positive_label", "tracking.experiment", "paths.home"),
    *("trainer.precision", *(f"dataset.{name}" for name in _COLUMNS)),
}
_ALSO_NUMBERS = {"dataset.positive_label"}
_WHOLE = {"dataset.sql", "dataset.uri", "dataset.positive_if"}
_WHOLE |= {f"dataset.csv.{sign}" for sign in ("sep", "decimal", "thousands")}
"""Keys whose commas and signs are part of the one value."""


def quoted_arms(override: str) -> str:
    """``sweep.arms=[[loss=bce],[...]]`` with each override quoted, as Hydra's grammar requires.

    Raises:
        RequestError: the value is not a list of lists.
    """
    if not override.startswith(ARMS) or not override.removeprefix(ARMS).startswith("["):
        return override
    arms = [_inside(arm) for arm in _inside(override.removeprefix(ARMS))]
    shown = ",".join(f"[{','.join(map(_kept_or_quoted, arm))}]" for arm in arms)
    return f"{ARMS}[{shown}]"


def quoted_space(override: str) -> str:
    """``sweep.search.space={optimizer.lr:interval(0,1),loss.gamma:1,2}`` with each value quoted,
    which Hydra would read otherwise, and as an override that may add keys to a study's space."""
    value = override.removeprefix(SPACE)
    if not override.startswith(SPACE) or not (value.startswith("{") and value.endswith("}")):
        return override
    spaces: list[list[str]] = []
    for item in elements(value[1:-1]):
        key, colon, text = item.partition(":")
        if colon or not spaces:
            spaces.append([key.strip(), text.strip()])
        else:  # a,b is a space, too
            spaces[-1][1] += f",{item}"
    shown = [f"{key}:{_null_or_quoted(text)}" for key, text in spaces]
    return f"++{SPACE}{{{','.join(shown)}}}"


def _null_or_quoted(text: str) -> str:
    return text if not text or text == "null" else _kept_or_quoted(text)


def as_meant(line: str) -> str:
    """An override with text quoted that Hydra's grammar would refuse, or read as a number:
    ``dataset.path=t (1).csv``, ``dataset.drop=[2019,card #]``, ``trainer.precision=32,bf16``.

    Only for the keys in ``_TEXTS``. ``experiment=NAME`` is short for ``tracking.experiment=NAME``.
    """
    key, equals, value = line.partition("=")
    if key == "experiment":
        key = "tracking.experiment"
    if key in _WHOLE and value:
        return f"{key}={value if _is_one(value) else quoted(value)}"
    if key not in _TEXTS or not value:
        return f"{key}{equals}{value}"
    if _parsed(value) is None and not (value.startswith("[") and value.endswith("]")):
        return f"{key}={quoted(value)}"
    number_too = key in _ALSO_NUMBERS
    return f"{key}={','.join(_text(part, number_too=number_too) for part in elements(value))}"


def _text(value: str, *, number_too: bool) -> str:
    if value.startswith("[") and value.endswith("]"):
        texts = [_text(part, number_too=number_too) for part in elements(value[1:-1])]
        return f"[{','.join(texts)}]"
    found = _parsed(value)
    misread = isinstance(found, bool | int | float) and not number_too
    return quoted(value) if found is None or misread else value


def _parsed(value: str) -> Any:
    """The value as Hydra reads it; None if it cannot, and "" for null."""
    try:
        found = OverridesParser.create().parse_override(f"key={value}").value()
    except HydraException:
        return None
    return "" if found is None else found


def _is_one(value: str) -> bool:
    """Whether Hydra reads it, as a single value and not as several to sweep over."""
    try:
        return not OverridesParser.create().parse_override(f"key={value}").is_sweep_override()
    except HydraException:
        return False


def key_of(line: str) -> str:
    """The key or group that an override sets."""
    return line.partition("=")[0].lstrip("+~")


def is_of_a_job(override: Override) -> bool:
    """Whether an override belongs to the jobs, not to how the sweep is run."""
    return first_key(override.key_or_group) not in NOT_OF_A_JOB


def expand(
    parser: OverridesParser,
    study: Mapping[str, Any],
    arguments: Sequence[str],
    settings: Settings,
) -> list[tuple[str, ...]]:
    """The overrides of every job: arms x zip x grid, the first varying slowest.

    Args and precedence: see :func:`requested`.
    """
    jobs: dict[tuple[str, ...], None] = {}
    for arm in requested(parser, study, arguments, settings):
        jobs |= dict.fromkeys(grid(arm.overrides))
    return list(jobs)


class ArmRequest(NamedTuple):
    """An arm with one row of the zip: the keys it sets itself, those that the command line sets,
    and all of its overrides, which may have several values each."""

    own: frozenset[str]
    typed: frozenset[str]
    overrides: list[Override]


def requested(
    parser: OverridesParser,
    study: Mapping[str, Any],
    arguments: Sequence[str],
    settings: Settings,
) -> Iterator[ArmRequest]:
    """The arms of a request, one for each row of the zip.

    When a key is overridden twice the later one wins: the study's (``hydra.sweeper.params``), then
    its arms and zip, then the command line. Arms and zip given on the command line come last.

    Args:
        parser: knows the groups, for ``glob(*)``.
        study: the study's grid, key -> values as in an override.
        arguments: the command line's overrides.
        settings: holds arms and zip.
    """
    typed = [override for override in parser.parse_overrides(list(arguments))]
    kept = [override for override in typed if is_of_a_job(override)]
    ours = {override.key_or_group for override in typed}
    base = parser.parse_overrides([as_meant(f"{key}={value}") for key, value in study.items()])
    arms = [_arm(parser, arm) for arm in settings.arms or [[]]]
    zipped = _zip(parser, settings.zip or {})
    last = {"sweep.arms", "sweep.zip"} & ours
    for arm, row in itertools.product(arms, zipped):
        special = [*arm, *row]
        winners = _last_of_each_key([*kept, *special] if last else [*special, *kept])
        shown = [o for o in [*base, *special, *kept] if winners.get(o.key_or_group, o) is o]
        own = frozenset(o.key_or_group for o in arm if any(o is each for each in shown))
        yield ArmRequest(own, frozenset(o.key_or_group for o in kept) - own, shown)


def grid(overrides: Iterable[Override]) -> list[tuple[str, ...]]:
    """Every combination of the overrides' values.

    Raises:
        RequestError: an override has no values, or a continuum of them.
    """
    return list(itertools.product(*map(_values, overrides)))


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        assert override.input_line is not None
        return [override.input_line]
    if not override.is_discrete_sweep():
        raise RequestError(
            f"{override.input_line}: an interval needs a search (sweep.search.space or "
            "hydra/sweeper=optuna); a grid takes a,b,c or range(n)"
        )
    key = override.get_key_element()
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise RequestError(f"{override.input_line}: expected at least one value, found none")
    return values


def _last_of_each_key(overrides: Iterable[Override]) -> dict[str, Override]:
    return {override.key_or_group: override for override in overrides}


def _arm(parser: OverridesParser, arm: Any) -> list[Override]:
    if not isinstance(arm, Sequence) or isinstance(arm, str):
        raise RequestError(f"sweep.arms: expected a list of lists of overrides, found {arm!r}")
    return parser.parse_overrides([as_meant(str(override)) for override in arm])


def _zip(parser: OverridesParser, zipped: Mapping[str, Sequence[Any]]) -> list[list[Override]]:
    columns = [
        [as_meant(f"{key}={Transformer.str(value)}") for value in values]
        for key, values in zipped.items()
    ]
    rows = zip(*columns, strict=True) if columns else [()]
    return [parser.parse_overrides(list(row)) for row in rows]


def _inside(text: str) -> list[str]:
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        raise RequestError(
            f"sweep.arms: expected [[...],[...]], a list of lists of overrides, found {text}"
        )
    return elements(text[1:-1])


def _kept_or_quoted(text: str) -> str:
    return text if text[0] == text[-1] and text[0] in "'\"" else quoted(text)
