"""How every loss reads, checks and weights the rows of a batch.

Logits are [N, C], or [N] when C = 1. Targets are [N] or [N, 1], of any integer, floating or boolean
type. Half precision is converted to float32; float64 is kept.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")


def as_logits(logits: Tensor, width: int) -> Tensor:
    """Logits as float32 or float64 [N, width].

    Raises:
        ValueError: the shape is wrong, or the dtype is not floating.
    """
    if logits.ndim == 1 and width == 1:
        logits = logits.unsqueeze(1)
    if logits.ndim != 2 or logits.size(1) != width:
        expected = f"[N, {width}]" + (" or [N]" if width == 1 else "")
        raise ValueError(f"logits have shape {list(logits.shape)}, expected {expected}")
    return floating(logits)


def floating(logits: Tensor) -> Tensor:
    """Logits of any shape as float32 or float64.

    Raises:
        ValueError: the dtype is not floating.
    """
    if logits.dtype in (torch.float32, torch.float64):
        return logits
    if not logits.is_floating_point():
        raise ValueError(f"logits have dtype {logits.dtype}, expected raw floating scores")
    return logits.float()


def as_column(values: Tensor, rows: int, name: str) -> Tensor:
    """One value per row, [N] or [N, 1], as [N].

    Raises:
        ValueError: the shape does not match the logits; names the argument.
    """
    if values.ndim == 2 and values.size(1) == 1:
        values = values.squeeze(1)
    if values.ndim != 1 or values.size(0) != rows:
        shape = list(values.shape)
        raise ValueError(f"{name} has shape {shape}, expected [{rows}] or [{rows}, 1]")
    return values


def as_labels(targets: Tensor, rows: int, classes: int, ignore_index: int) -> Tensor:
    """Targets as int64 labels [N] in {0, .., classes - 1} or ``ignore_index``.

    Raises:
        ValueError: on a fraction or NaN.
    """
    targets = as_column(targets, rows, "targets")
    if targets.dtype == torch.int64:
        return targets
    labels = targets.long()
    if targets.is_floating_point() and not torch.equal(labels.to(targets.dtype), targets):
        bad = targets[labels.to(targets.dtype) != targets][:8].tolist()
        raise ValueError(f"targets hold {bad}, expected {_valid_labels(classes, ignore_index)}")
    return labels


def kept_rows(labels: Tensor, classes: int, ignore_index: int) -> Tensor | None:
    """Mask [N] of the rows to keep, or None for all.

    One pass over the labels checks both their range and whether any row is ignored.

    Raises:
        ValueError: on a label outside {0, .., classes - 1} that is not ``ignore_index``.
    """
    if labels.numel() == 0:
        return None
    low, high = torch.aminmax(labels)
    low, high = int(low), int(high)
    inside = low >= 0 and high < classes
    if inside and not low <= ignore_index <= high:
        return None
    keep = labels != ignore_index
    if not inside:
        bad = labels[keep & ((labels < 0) | (labels >= classes))]
        if bad.numel():
            expected = _valid_labels(classes, ignore_index)
            raise ValueError(f"targets hold {bad[:8].tolist()}, expected {expected}")
    return keep


def as_weights(sample_weight: Tensor | None, like: Tensor) -> Tensor | None:
    """Per-sample weights [N], detached, in the dtype of the logits ``like`` [N, C].

    Raises:
        ValueError: the shape is wrong, or a weight is negative, infinite or NaN.
    """
    if sample_weight is None:
        return None
    weights = as_column(sample_weight.detach(), like.size(0), "sample_weight")
    return finite_weights(weights).to(dtype=like.dtype, device=like.device)


def finite_weights(weights: Tensor) -> Tensor:
    """Return the weights, of any shape.

    Raises:
        ValueError: a weight is negative, infinite or NaN.
    """
    if weights.numel():
        low, high = torch.aminmax(weights)
        low, high = float(low), float(high)
        # Phrased so that NaN, which fails every comparison, is refused too.
        if not (low >= 0 and high < float("inf")):
            raise ValueError(
                f"sample_weight spans [{low}, {high}], expected finite values of at least 0"
            )
    return weights


def check_reduction(reduction: str, also: tuple[str, ...] = ()) -> str:
    """Return the reduction.

    Raises:
        ValueError: it is not 'mean', 'sum', 'none' or one of ``also``.
    """
    return check_choice("reduction", reduction, (*REDUCTIONS, *also))


def check_choice(name: str, value: str, valid: Sequence[str]) -> str:
    """Return the value.

    Raises:
        ValueError: it is not one of ``valid``; names the argument.
    """
    if value not in valid:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(valid)}")
    return value


def _valid_labels(classes: int, ignore_index: int) -> str:
    span = "0 or 1" if classes == 2 else f"integers from 0 to {classes - 1}"
    return f"{span} (or ignore_index {ignore_index})"
