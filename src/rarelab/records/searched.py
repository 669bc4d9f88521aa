"""Values that a contest chose for a run: what an arm is apart from them."""

import json
from collections.abc import Iterable, Mapping

TAG = "rarelab.searched"
"""The tag of a run whose values were chosen by a search of its arm: a JSON object, key -> what the
value was chosen from, or null for a value that follows from another choice."""

TRIAL = "trial"
"""The tag ``rarelab.kind`` of a trial, a run that only served to choose an arm's values."""

TRIALS = "search.trials"
"""The entry of :data:`TAG` for the number of trials."""


def searched(tags: Mapping[str, str]) -> dict[str, str | None]:
    """What the tag says; empty for a run whose values were all given."""
    try:
        found = json.loads(tags.get(TAG, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def as_arm(
    configuration: Mapping[str, str], chosen_from: Mapping[str, str | None]
) -> dict[str, str]:
    """A flat configuration with what its values were chosen from instead of the chosen values.

    The runs of one arm then have equal configurations, whatever was chosen on each split.
    """
    given = {key: value for key, value in configuration.items() if key not in chosen_from}
    return given | {key: space for key, space in chosen_from.items() if space is not None}


def choices(
    configurations: Iterable[Mapping[str, str]], chosen_from: Mapping[str, str | None]
) -> dict[str, list[str]]:
    """The distinct values that runs of one arm chose, by key, in order of first appearance."""
    keys = [key for key, space in chosen_from.items() if space is not None and key != TRIALS]
    found: dict[str, dict[str, None]] = {key: {} for key in keys}
    for configuration in configurations:
        for key in keys:
            if key in configuration:
                found[key][configuration[key]] = None
    return {key: list(values) for key, values in found.items()}
