"""Order statistics over the last dimension by partial selection, batched over the others."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

INTERPOLATIONS = ("linear", "lower", "higher", "nearest", "midpoint")
_FLOAT32_COUNTS_TO = 1 << 24
_WORTH_GROUPS = 1 << 14  # number of values above which selection by groups is faster


def quantile(x: Tensor, q: float, *, interpolation: str = "linear") -> Tensor:
    """The ``q`` quantile of ``x`` [..., n] over its last dimension, without gradient.

    Bit for bit the value of ``torch.quantile`` but without its limits: half precision and more than
    16 M elements are fine, and nothing is sorted. A NaN makes its row's quantile NaN.

    Raises:
        ValueError: ``x`` is empty, ``q`` is outside [0, 1] or ``interpolation`` is unknown.
    """
    if not 0.0 <= q <= 1.0 or interpolation not in INTERPOLATIONS or not x.shape[-1]:
        raise ValueError(
            f"quantile: q={q}, interpolation={interpolation!r}, {x.shape[-1]} values; expected "
            f"0 <= q <= 1, one of {', '.join(INTERPOLATIONS)}, and at least one value"
        )
    x = x.detach()
    wide = x.dtype == torch.float64 or x.shape[-1] > _FLOAT32_COUNTS_TO
    below, above, weight = _ranks(x.shape[-1] - 1, q, interpolation, wide)
    low, high = _neighbours(x, below, above)
    if above == below and x.is_floating_point():
        return low
    working = torch.promote_types(x.dtype, torch.float32)
    value = low.to(working)
    if above > below:
        value = torch.lerp(value, high.to(working), value.new_tensor(weight))
    return value.to(x.dtype) if x.is_floating_point() else value


def iqr(x: Tensor) -> Tensor:
    """Inter-quartile range of ``x`` [..., n] over its last dimension, without gradient."""
    return quantile(x, 0.75) - quantile(x, 0.25)


def masked_quantiles(
    x: Tensor, where: Tensor, q: Sequence[float], *, interpolation: str = "linear"
) -> Tensor:
    """The quantiles ``q`` of the entries of ``x`` [..., n] selected by ``where``: [..., len(q)].

    Equal to ``torch.quantile(x[where], q)`` row by row, however many are selected in each;
    NaN where none are. One selection serves all of ``q``; no gradient.
    """
    x = x.detach().masked_fill(~where, -torch.inf)
    deepest = int((1.0 - min(q)) * (x.shape[-1] - 1)) + 2
    top = x.topk(min(deepest, x.shape[-1])).values
    last = where.sum(-1, keepdim=True) - 1
    wide = x.dtype == torch.float64 or x.shape[-1] > _FLOAT32_COUNTS_TO
    working = torch.float64 if wide else torch.float32
    rank = last * torch.tensor(q, dtype=working, device=x.device)
    rank = {"lower": torch.floor, "higher": torch.ceil, "nearest": torch.round}.get(
        interpolation, lambda rank: rank
    )(rank)
    below, above = rank.floor().long(), rank.ceil().long()
    low, high = (top.gather(-1, (last - r).clamp_(0, top.shape[-1] - 1)) for r in (below, above))
    if interpolation in ("linear", "midpoint"):
        weight = torch.full_like(rank, 0.5) if interpolation == "midpoint" else rank - below
        low = torch.lerp(low, high, weight.to(low))
    return low.masked_fill((last < 0) | top[..., :1].isnan(), torch.nan)


@lru_cache
def _ranks(last: int, q: float, interpolation: str, wide: bool) -> tuple[int, int, float]:
    """Ascending ranks (below, above) and the weight of the latter, rounded as torch does."""
    number = np.float64 if wide else np.float32  # torch forms q (n − 1) in the input's precision
    rank = number(q) * number(last)
    rounded = {"lower": np.floor, "higher": np.ceil, "nearest": np.rint}.get(interpolation)
    if rounded:
        return int(rounded(rank)), int(rounded(rank)), 0.0
    below = np.floor(rank)
    weight = 0.5 if interpolation == "midpoint" else float(rank - below)
    return int(below), int(np.ceil(rank)), weight


def _neighbours(x: Tensor, below: int, above: int) -> tuple[Tensor, Tensor]:
    """The values of ascending ranks ``below`` and ``above`` (``below`` or ``below + 1``)."""
    count = x.shape[-1]
    if 2 * below >= count:  # nearer the top, where NaN is selected too and amin returns it
        top = _extremes(x, count - below, largest=True)
        low = top.amin(-1)
        return low, top if above == below else top.topk(2, largest=False).values[..., 1]
    bottom = _extremes(x, above + 1, largest=False)
    high = bottom.amax(-1)
    low = high if above == below else bottom.topk(2).values[..., 1]
    if x.is_floating_point():
        low = low.masked_fill(x.isnan().any(-1), torch.nan)
    return low, high


def _extremes(x: Tensor, k: int, largest: bool) -> Tensor:
    """The ``k`` largest (or smallest) values of ``x`` [..., n], in any order: [..., k].

    Each row is split into groups. The k groups with the largest maxima hold k values that no other
    group exceeds, so they contain the k largest overall, and only they need to be searched. NaN
    counts as the largest value, as in ``topk``.
    """
    size = int((x.shape[-1] / k) ** 0.5)
    if x.numel() < _WORTH_GROUPS or size < 4:
        return x.topk(k, largest=largest, sorted=False).values
    count = x.shape[-1] // size
    groups = x[..., : size * count].unflatten(-1, (size, count))  # strided: one group per column
    best = groups.amax(-2) if largest else groups.amin(-2)
    chosen = best.topk(k, largest=largest, sorted=False).indices.unsqueeze(-2)
    inside = groups.gather(-1, chosen.expand(*chosen.shape[:-2], size, k)).flatten(-2)
    rest = torch.cat((inside, x[..., size * count :]), -1)
    return rest.topk(k, largest=largest, sorted=False).values
