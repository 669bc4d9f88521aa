"""Is the loss teaching anything? Shares of the steps of one epoch that could not."""

from typing import Any

import torch
from torch import Tensor

DEAD_GRADIENT = 1e-6
"""A step whose largest |dL/dlogit| is below this moves no weight worth the name."""

_ADVICE = {
    "train/zero_grad_frac": "raise the temperature (loss.temperature, or schedule.temp_end where a "
    "schedule sets it) or measure it in the scores' own spread (loss.temperature_unit=iqr)",
    "train/no_positive_batch_frac": "take sampler=stratified or raise trainer.batch_size",
    "train/no_positive_pool_frac": "raise loss.queue_size, take sampler=stratified or raise "
    "trainer.batch_size",
}


class Health:
    """Counts of dead gradients, of batches and of pools without a row of the rarest class."""

    def __init__(self) -> None:
        self._gradients: list[Tensor] = []
        self._batches: list[Tensor] = []
        self._pools: list[Tensor] = []

    def step(self, gradient: Tensor, batch_positive: Tensor, pool_positive: Tensor) -> None:
        """Take the gradient at the logits [N, C] and two scalar booleans; nothing is computed."""
        self._gradients.append(torch.linalg.vector_norm(gradient, torch.inf))
        self._batches.append(batch_positive)
        self._pools.append(pool_positive)

    def metrics(self) -> dict[str, float]:
        """The three shares, each in [0, 1], under the keys that runs are compared by."""
        dead = torch.stack(self._gradients) < DEAD_GRADIENT
        shares = (dead, ~torch.stack(self._batches), ~torch.stack(self._pools))
        return {
            key: share.double().mean().item() for key, share in zip(_ADVICE, shares, strict=True)
        }

    def state_dict(self) -> dict[str, Any]:
        """What was counted so far, one tensor [steps] for each; None before the first step."""
        counts = {"gradients": self._gradients, "batches": self._batches, "pools": self._pools}
        return {name: torch.stack(values) if values else None for name, values in counts.items()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on counting from ``state``."""

        def counted(name: str) -> list[Tensor]:
            return [] if state[name] is None else list(state[name].to(device).unbind())

        self._gradients, self._batches = counted("gradients"), counted("batches")
        self._pools = counted("pools")


def advice(metrics: dict[str, float]) -> list[str]:
    """One line for each share above one half, with what to change."""
    return [
        f"{key} = {metrics[key]:.2f}: more than half of the steps; {what}"
        for key, what in _ADVICE.items()
        if metrics.get(key, 0.0) > 0.5
    ]
