"""Loss diagnostics: the fractions of an epoch's steps in which little or nothing can be learned."""

from typing import Any

import torch
from torch import Tensor

DEAD_GRADIENT = 1e-6
"""A step whose largest |dL/dlogit| is below this hardly changes the weights."""

_ADVICE = {
    "train/zero_grad_frac": "raise the temperature (loss.temperature, or schedule.temp_end where a "
    "schedule sets it) or scale it with the spread of the scores (loss.temperature_unit=iqr)",
    "train/no_positive_batch_frac": "use sampler=stratified or raise trainer.batch_size",
    "train/no_positive_pool_frac": "raise loss.queue_size, use sampler=stratified or raise "
    "trainer.batch_size",
}


class Health:
    """Counts dead gradients, and batches and pools without a row of the rarest class."""

    def __init__(self) -> None:
        self._gradients: list[Tensor] = []
        self._batches: list[Tensor] = []
        self._pools: list[Tensor] = []

    def step(self, gradient: Tensor, batch_positive: Tensor, pool_positive: Tensor) -> None:
        """Add a step: the gradient at the logits [N, C] and two scalar booleans."""
        self._gradients.append(torch.linalg.vector_norm(gradient, torch.inf))
        self._batches.append(batch_positive)
        self._pools.append(pool_positive)

    def metrics(self) -> dict[str, float]:
        """The three fractions, each in [0, 1], under their metric names."""
        dead = torch.stack(self._gradients) < DEAD_GRADIENT
        shares = (dead, ~torch.stack(self._batches), ~torch.stack(self._pools))
        return {
            key: share.double().mean().item() for key, share in zip(_ADVICE, shares, strict=True)
        }

    def state_dict(self) -> dict[str, Any]:
        """The counts so far, one tensor [steps] each; None before the first step."""
        counts = {"gradients": self._gradients, "batches": self._batches, "pools": self._pools}
        return {name: torch.stack(values) if values else None for name, values in counts.items()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore ``state``."""

        def counted(name: str) -> list[Tensor]:
            return [] if state[name] is None else list(state[name].to(device).unbind())

        self._gradients, self._batches = counted("gradients"), counted("batches")
        self._pools = counted("pools")


def advice(metrics: dict[str, float], counted: str = "steps") -> list[str]:
    """One line for each fraction above one half of what is ``counted``, with a remedy."""
    return [
        f"{key} = {metrics[key]:.2f}: more than half of the {counted}; {what}"
        for key, what in _ADVICE.items()
        if metrics.get(key, 0.0) > 0.5
    ]
