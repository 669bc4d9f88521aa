"""Labels of arms: only what differs between them."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

GROUPS = ("dataset", "model", "loss", "warmup_loss", "schedule", "optimizer", "lr_schedule")
"""The order in which choices are named; other keys follow, and the seeds come last."""

ABSENT = "(not set)"
"""The value shown for a key that a comparable configuration has and this one lacks."""

ARM = "arm"
"""The parameter of a run of another program (``rarelab record``) that names its arm."""

BASELINES = ("bce", "cross_entropy")
"""The losses to compare with unless a baseline is named."""

_TARGET = "_target_"
_LAST = ("dataset.split_seed", "seed")

Configuration = Mapping[str, str]


def labels(configurations: Sequence[Configuration]) -> list[str]:
    """One label for each flat configuration (``{"loss": "bce", "loss.queue_size": "1024", ...}``).

    A label holds the choices and values that differ between the configurations:
    ``loss=smooth_ap queue_size=8192``. A key inside a group is named only if it differs between
    configurations with the same choice there (and, for a schedule, the same loss), since values
    that merely come with another choice add nothing. The group is dropped (``queue_size``, not
    ``loss.queue_size``) where that is unambiguous. Equal configurations get the same label; if all
    are equal, it is their loss.
    """
    found = differences(configurations)
    named = sorted({key for item in found for key in item}, key=order)
    short = _short_names(named)
    texts = [
        " ".join(f"{short[key]}={_compact(item[key])}" for key in named if key in item)
        for item in found
    ]
    if any(texts):
        return [text or "the defaults" for text in texts]
    return [_fallback(configuration) for configuration in configurations]


def differences(configurations: Sequence[Configuration]) -> list[dict[str, str]]:
    """For each configuration, the keys in which it differs from those with the same choices.

    A component not chosen by name (``loss=...``) is identified by its class; one that a
    configuration lacks (the loss of a model that fits itself) is not named. An arm of another
    program has a name and no configuration: it differs by that name from all others.
    """
    trained = [item for item in configurations if ARM not in item]
    found = _differences(trained)
    if len(trained) < len(configurations) and not any(found):
        found = [_identity(item) for item in trained]
    rest = iter(found)
    return [{ARM: item[ARM]} if ARM in item else next(rest) for item in configurations]


def _identity(item: Configuration) -> dict[str, str]:
    """The choice that names a configuration when it is the only one that was trained."""
    group = next((group for group in ("loss", "model") if _has(item, group)), None)
    return {group: _choice(item, group)} if group else {}


def _differences(configurations: Sequence[Configuration]) -> list[dict[str, str]]:
    keys = list(dict.fromkeys(key for item in configurations for key in item))
    groups = [group for key in keys if (group := _group_of_target(key))]
    chosen = [
        {group: _choice(item, group) for group in groups if _has(item, group)}
        for item in configurations
    ]
    full = [{**item, **choices} for item, choices in zip(configurations, chosen, strict=True)]
    keys = [*groups, *(key for key in keys if key not in groups and not _group_of_target(key))]
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for item in full:
        for key in _asked(item, keys):
            seen[key, _peers(item, key)].add(item.get(key, ABSENT))
    return [
        {
            key: item.get(key, ABSENT)
            for key in _asked(item, keys)
            if len(seen[key, _peers(item, key)]) > 1
        }
        for item in full
    ]


def _asked(item: Configuration, keys: Sequence[str]) -> list[str]:
    """The keys, without the groups that a configuration does not use."""
    return [key for key in keys if key in item or "." in key]


def _has(item: Configuration, group: str) -> bool:
    return group in item or f"{group}.{_TARGET}" in item


def _peers(item: Configuration, key: str) -> str:
    """What configurations must share for a key to be compared between them."""
    group, dot, _ = key.partition(".")
    if group == "schedule" and dot:
        # Temperatures are in units of the loss, so they are not comparable across losses.
        return f"{item.get(group, '')} {_choice(item, 'loss')}"
    return item.get(group, "") if dot else ""


def _group_of_target(key: str) -> str:
    group, _, name = key.rpartition(".")
    return group if name == _TARGET else ""


def _choice(item: Configuration, group: str) -> str:
    return item.get(group) or item.get(f"{group}.{_TARGET}", ABSENT).rpartition(".")[2]


def order(key: str) -> tuple[int, bool, int, str]:
    """Sort key: choices first, then other keys group by group, the seeds last."""
    group = key.partition(".")[0]
    place = GROUPS.index(group) if group in GROUPS else len(GROUPS)
    return (_LAST.index(key) + 1 if key in _LAST else 0, "." in key, place, key)


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    tails = Counter(key.rpartition(".")[2] for key in keys)
    return {key: tail if tails[tail := key.rpartition(".")[2]] == 1 else key for key in keys}


def _compact(value: str) -> str:
    return printable(value).replace(", ", ",")


def printable(text: str) -> str:
    """Replace control characters, since names may come from anyone's record."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _fallback(item: Configuration) -> str:
    choice = _choice(item, "loss")
    return "all runs" if choice == ABSENT else f"loss={_compact(choice)}"
