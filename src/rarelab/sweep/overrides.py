"""From the command line to the overrides of each job: grid, arms and zip in Hydra's grammar."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, Transformer
from hydra.errors import HydraException

from rarelab.config.groups import NOT_OF_A_JOB, first_key
from rarelab.errors import RequestError
from rarelab.sweep.settings import Settings

ARMS = "sweep.arms="

_COLUMNS = ("target", "positive_label", "positive_if", "group", "time", "sample_weight")
_SIGNS = ("csv.sep", "csv.decimal", "csv.thousands", "sql", "uri")
_NAMES = {
    *("dataset.path", "tracking.experiment", "paths.home"),
    *(f"dataset.{key}" for key in (*_COLUMNS, *_SIGNS)),
}


def quoted_arms(override: str) -> str:
    """``sweep.arms=[[loss=bce],[...]]`` with each override quoted, as Hydra's grammar requires.

    Raises:
        RequestError: the value is not a list of lists.
    """
    if not override.startswith(ARMS) or not override.removeprefix(ARMS).startswith("["):
        return override
    arms = [_split(arm) for arm in _split(override.removeprefix(ARMS))]
    shown = ",".join(f"[{','.join(map(_quote, arm))}]" for arm in arms)
    return f"{ARMS}[{shown}]"


def quoted_name(override: str) -> str:
    """``dataset.path=t (1).csv`` with the name quoted; Hydra's grammar refuses it unquoted.

    Only for the keys in ``_NAMES``, and only if the value does not parse as it is.
    """
    key, _, value = override.partition("=")
    if key not in _NAMES or not value:
        return override
    try:
        parsed = OverridesParser.create().parse_override(override)
        if key == "dataset.sql" and parsed.is_sweep_override():  # the commas are the query's
            raise HydraException
    except HydraException:
        return f"{key}={QuotedString(value, Quote.single).with_quotes()}"
    return override


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
    grid = parser.parse_overrides([f"{key}={value}" for key, value in study.items()])
    arms = [_arm(parser, arm) for arm in settings.arms or [[]]]
    zipped = _zip(parser, settings.zip or {})
    last = {"sweep.arms", "sweep.zip"} & ours
    jobs: dict[tuple[str, ...], None] = {}
    for arm, row in itertools.product(arms, zipped):
        special = [*arm, *row]
        winners = _last_of_each_key([*kept, *special] if last else [*special, *kept])
        shown = [o for o in [*grid, *special, *kept] if winners.get(o.key_or_group, o) is o]
        jobs |= dict.fromkeys(_grid(shown))
    return list(jobs)


def _grid(overrides: Iterable[Override]) -> list[tuple[str, ...]]:
    return list(itertools.product(*map(_values, overrides)))


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        assert override.input_line is not None
        return [override.input_line]
    if not override.is_discrete_sweep():
        raise RequestError(
            f"{override.input_line}: an interval needs a search; a grid takes a,b,c or range(n)"
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
    return parser.parse_overrides([str(override) for override in arm])


def _zip(parser: OverridesParser, zipped: Mapping[str, Sequence[Any]]) -> list[list[Override]]:
    columns = [[f"{key}={_text(value)}" for value in values] for key, values in zipped.items()]
    rows = zip(*columns, strict=True) if columns else [()]
    return [parser.parse_overrides(list(row)) for row in rows]


def _text(value: Any) -> str:
    return Transformer.str(value)


def _split(text: str) -> list[str]:
    """The elements of ``[a, [b, c], d]`` as text, split at the outermost commas."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        raise RequestError(
            f"sweep.arms: expected [[...],[...]], a list of lists of overrides, found {text}"
        )
    parts, depth, quote = [""], 0, ""
    for character in text[1:-1]:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        depth += (character in "[{(") - (character in "]})") if not quote else 0
        if character == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _quote(text: str) -> str:
    if text[0] == text[-1] and text[0] in "'\"":
        return text
    return QuotedString(text, Quote.single).with_quotes()
