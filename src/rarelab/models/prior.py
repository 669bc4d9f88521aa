"""Initialise a network at the class frequencies, so training need not learn them first."""

from typing import Any

import torch
from torch import Tensor, nn

from rarelab.errors import RequestError
from rarelab.models.members import Members

# An absent class starts at odds of one in a hundred million, not at a bias of minus infinity.
_SMALLEST = 1e-8


def set_output_prior(model: object, prior: Tensor) -> bool:
    """Set the bias of ``model.head`` to the log-odds (one output) or the logs (C) of the prior.

    Binary: b = log(p / (1 − p)) with prior [1 − p, p]; multi-class: b_c = log p_c, prior [C]. With
    zero weights the model then predicts the prior exactly (Lin et al. 2017, section 3.3, for rare
    positives). Every member of a model of :class:`Members` starts there. Returns False and changes
    nothing unless ``prior_bias`` is true and ``head`` is a Linear with bias, or that of members.

    Raises RequestError if the number of frequencies does not match the head, or they are not a
    distribution.
    """
    head: Any = getattr(model, "head", None)
    known = isinstance(head, nn.Linear) or isinstance(model, Members)
    if not (known and getattr(model, "prior_bias", False)):
        return False
    if getattr(head, "bias", None) is None:
        return False
    outputs = head.bias.shape[-1]
    expected = max(outputs, 2)
    frequencies = torch.as_tensor(prior, dtype=torch.float64).flatten()
    if len(frequencies) != expected:
        raise RequestError(
            f"output prior: expected {expected} class frequencies, found {len(frequencies)}"
        )
    if bool((frequencies < 0).any()) or abs(float(frequencies.sum()) - 1) > 1e-4:
        raise RequestError(
            f"output prior: frequencies must be >= 0 and sum to 1, found {frequencies.tolist()}"
        )
    logs = frequencies.clamp_min(_SMALLEST).log()
    with torch.no_grad():
        head.bias.copy_(logs[1:] - logs[:1] if outputs == 1 else logs)
    return True
