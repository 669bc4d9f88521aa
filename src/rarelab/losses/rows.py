"""How a batch's rows are read, checked and weighted, alike for every loss.

Logits are [N, C], or [N] when C = 1. Targets are [N] or [N, 1], of any integer, floating or boolean
type. Half precision is taken up to float32; float64 is kept.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")


def as_logits(logits: Tensor, width: int) -> Tensor:
    """Logits as float32 or float64 [N, width].

    Raises:
        ValueError: on another shape, or on a dtype that is not floating.
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
        ValueError: on a dtype that is not floating.
    """
    if logits.dtype in (torch.float32, torch.float64):
        return logits
    if not logits.is_floating_point():
        raise ValueError(f"logits have dtype {logits.dtype}, expected raw floating scores")
    return logits.float()


def as_column(values: Tensor, rows: int, name: str) -> Tensor:
    """One value per row, [N] or [N, 1], as [N].

    Raises:
        ValueError: naming the argument, when the shape does not fit the logits.
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
        ValueError: on any other value, fractions and NaN included.
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
    """Mask [N] of the rows that count, or None when all do.

    One pass over the labels settles both the range and whether a row is ignored at all.

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
        ValueError: on a wrong shape, or on a weight that is negative, infinite or NaN.
    """
    if sample_weight is None:
        return None
    weights = as_column(sample_weight.detach(), like.size(0), "sample_weight")
    return finite_weights(weights).to(dtype=like.dtype, device=like.device)


def finite_weights(weights: Tensor) -> Tensor:
    """The weights themselves, of any shape.

    Raises:
        ValueError: on a weight that is negative, infinite or NaN.
    """
    if weights.numel():
        low, high = torch.aminmax(weights)
        low, high = float(low), float(high)
        # Written so that NaN, for which every comparison is false, is refused too.
        if not (low >= 0 and high < float("inf")):
            raise ValueError(
                f"sample_weight spans [{low}, {high}], expected finite values of at least 0"
            )
    return weights


def check_reduction(reduction: str, also: tuple[str, ...] = ()) -> str:
    """The reduction itself.

    Raises:
        ValueError: when it is none of 'mean', 'sum', 'none', nor one of those ``also`` allowed.
    """
    return check_choice("reduction", reduction, (*REDUCTIONS, *also))


def check_choice(name: str, value: str, valid: Sequence[str]) -> str:
    """The value itself.

    Raises:
        ValueError: naming the argument, when it is none of ``valid``.
    """
    if value not in valid:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(valid)}")
    return value


def _valid_labels(classes: int, ignore_index: int) -> str:
    span = "0 or 1" if classes == 2 else f"integers from 0 to {classes - 1}"
    return f"{span} (or ignore_index {ignore_index})"
