"""What a request leaves open, filled in by what the recorded studies recommend for such data.

This is the one place that says so: a row per data set's option.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rarelab.config.groups import GRADIENT, first_key


@dataclass(frozen=True)
class Recommendation:
    """For one option of ``dataset``.

    model: the model if the request names none, and nothing that only networks use. why: the reason,
    for the note. min_steps: ``trainer.min_steps`` if the request says nothing of a network's epochs
    and batches.
    """

    model: str
    why: str
    min_steps: int


RECOMMENDED = {
    "file": Recommendation(
        model="hist_gradient_boosting",
        why="boosting is ahead of the networks on tables, and there no loss is shown to beat BCE",
        min_steps=500,
    )
}

_NAMES_A_MODEL = {"model", "sampler", "trainer", "experiments", *GRADIENT}
_OF_ANY_MODEL = {"trainer.threads", "trainer.device", "trainer.resume"}
_STEPS = {"trainer.max_epochs", "trainer.batch_size", "trainer.min_steps"}


def chosen_model(keys: Sequence[str], dataset: str | None) -> str | None:
    """The model for a request that overrides these keys and does not name one, else None."""
    found = RECOMMENDED.get(dataset or "")
    named = {first_key(key) for key in keys if key not in _OF_ANY_MODEL}
    return None if found is None or named & _NAMES_A_MODEL else found.model


def chosen_steps(keys: Sequence[str], dataset: str | None) -> int | None:
    """``trainer.min_steps`` for a request that overrides these keys, else None."""
    found = RECOMMENDED.get(dataset or "")
    return None if found is None or set(keys) & _STEPS else found.min_steps


def note(dataset: str) -> str:
    """One line: what was chosen, why, and how to choose otherwise."""
    found = RECOMMENDED[dataset]
    return (
        f"note: model={found.model}, as none is named: {found.why}; "
        "for a network name its loss, such as loss=bce"
    )
