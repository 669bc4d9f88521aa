"""Shared by the ranking kernels: input checks, and values computed together with gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rarelab.functional.threads import one_thread

Evaluate = Callable[[Tensor, int, tuple], tuple[Tensor, Tensor | None]]
Live = Tensor | int | None


def apply_once(evaluate: Evaluate, scores: Tensor, arguments: tuple, live: Live = None) -> Tensor:
    """Differentiable ``evaluate(scores, columns, arguments)[0]``.

    ``evaluate`` returns a value [...] and its derivative [..., columns] with respect to the first
    ``columns`` of ``scores`` [..., M] (unused if 0); each list depends on its own scores only. It
    is called once, without a graph, and not at all for empty scores: an empty list's value is NaN.

    ``live`` says where the gradient goes: to the first ``live`` columns (None: all), or to a tensor
    [..., L] that ``scores`` begins with, which keeps a queue behind it out of the graph.
    """
    leaf = live if isinstance(live, Tensor) else scores
    columns = leaf.shape[-1] if live is None or leaf is live else min(live, scores.shape[-1])
    if not scores.numel():
        evaluate = _nothing
    elif torch.is_autocast_enabled(scores.device.type):
        evaluate = partial(_in_full_precision, evaluate)
    if leaf.requires_grad and torch.is_grad_enabled():
        return _Once.apply(leaf, scores, evaluate, columns, arguments)  # type: ignore[return-value]
    with torch.no_grad(), one_thread(scores.numel(), scores.device):
        return evaluate(scores, 0, arguments)[0]


def check_ranked_lists(name: str, scores: Tensor, positives: Tensor, tau: float | Tensor) -> None:
    """Refuse inputs that no ranking kernel accepts.

    Raises:
        TypeError: scores are not float32 or float64, or positives are not bool.
        ValueError: the shapes differ or have no last dimension, or ``tau`` is not positive.
    """
    if scores.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name}: scores are {scores.dtype}, expected float32 or float64")
    if positives.dtype != torch.bool:
        raise TypeError(f"{name}: positives are {positives.dtype}, expected bool")
    if scores.shape != positives.shape or not scores.dim():
        raise ValueError(
            f"{name}: scores {tuple(scores.shape)} and positives {tuple(positives.shape)} "
            "must have one shape [..., M]"
        )
    if not isinstance(tau, Tensor) and not tau > 0:
        raise ValueError(f"{name}: tau is {tau}, expected a number > 0")


def _in_full_precision(evaluate: Evaluate, scores: Tensor, columns: int, arguments: tuple) -> Any:
    # Autocast rounds float32 products to half precision, leaving ranks with about three digits.
    with torch.autocast(scores.device.type, enabled=False):
        return evaluate(scores, columns, arguments)


def _nothing(scores: Tensor, columns: int, arguments: tuple) -> tuple[Tensor, Tensor]:
    return scores.new_full(scores.shape[:-1], torch.nan), torch.zeros_like(scores)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, leaf: Tensor, scores: Tensor, evaluate: Evaluate, columns: int, arguments: tuple
    ) -> Tensor:
        with one_thread(scores.numel(), scores.device):
            value, gradient = evaluate(scores.detach(), columns, arguments)
        if gradient is None:
            gradient = leaf.new_zeros(*leaf.shape[:-1], 0)
        ctx.save_for_backward(gradient, leaf)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        gradient, leaf = ctx.saved_tensors
        others = leaf.shape[-1] - gradient.shape[-1]
        if others:
            gradient = torch.nn.functional.pad(gradient, (0, others))
        if torch.is_grad_enabled():
            return _NoSecondDerivative.apply(gradient, upstream, leaf), None, None, None, None
        return gradient * upstream.unsqueeze(-1), None, None, None, None


class _NoSecondDerivative(torch.autograd.Function):
    """The same product for ``create_graph=True``; raises only when differentiated."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, upstream: Tensor, leaf: Tensor) -> Tensor:
        return gradient * upstream.unsqueeze(-1)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        raise RuntimeError(
            "this ranking kernel has no second derivative: its gradient is computed in closed form "
            "without a graph, so gradients of gradients (create_graph=True) are not available"
        )
