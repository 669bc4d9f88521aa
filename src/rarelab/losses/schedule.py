"""When the warmup ends, how the main loss is blended in, and how its temperature decays.

Pure functions of a position (an epoch or a step, counted from 0), without state.
"""

from math import inf


def main_weight(position: int, warmup: int, blend: int, final: float) -> float:
    """The main loss's weight: 0 in the warmup, f·k/(B + 1) at blend position k = 1..B, then f."""
    if position < warmup:
        return 0.0
    if ramp_ended(position, warmup, blend):
        return final  # f·(B + 1)/(B + 1) is not always f in floating point
    return final * (position - warmup + 1) / (blend + 1)


def ramp_ended(position: int, warmup: int, blend: int) -> bool:
    """Whether warmup and blend are over and the main loss has its final weight."""
    return position >= warmup + blend


def temperature(elapsed: int, start: float, end: float, decay_steps: int) -> float:
    """start · (end / start)^(elapsed / decay_steps), held at ``end`` after ``decay_steps``."""
    return start * (end / start) ** min(1.0, max(0, elapsed) / decay_steps)


def check_phases(
    warmup_epochs: int, blend_epochs: int, warmup_steps: int | None, blend_steps: int | None
) -> None:
    phases = {
        "warmup_epochs": warmup_epochs,
        "blend_epochs": blend_epochs,
        "warmup_steps": warmup_steps,
        "blend_steps": blend_steps,
    }
    for name, length in phases.items():
        if length is not None and length < 0:
            raise ValueError(f"{name} is {length}, expected at least 0")
    if warmup_steps is not None and warmup_epochs:
        raise ValueError("warmup_epochs and warmup_steps are both given, expected one of them")
    if warmup_steps is not None and blend_epochs:
        raise ValueError("blend_epochs is given with warmup_steps, expected blend_steps")
    if warmup_steps is None and blend_steps is not None:
        raise ValueError("blend_steps is given without warmup_steps, expected both or blend_epochs")


def check_values(
    temp_start: float, temp_end: float, temp_decay_steps: int | None, final_main_weight: float
) -> None:
    for name, value in (("temp_start", temp_start), ("temp_end", temp_end)):
        if not 0 < value < inf:
            raise ValueError(f"{name} is {value}, expected a positive number")
    if temp_decay_steps is None or temp_decay_steps < 1:
        raise ValueError(f"temp_decay_steps is {temp_decay_steps}, expected at least 1")
    if not 0 < final_main_weight <= 1:
        raise ValueError(f"final_main_weight is {final_main_weight}, expected (0, 1]")
