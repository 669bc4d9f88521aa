"""Gathers whose gradient, after data-parallel averaging, is the single-process gradient.

Every rank evaluates the same loss L on the rows of all ranks. Rank r only backpropagates through
its own rows, and data-parallel training averages over ranks: (1/W) Σ_r ∂L/∂x_r · ∂x_r/∂θ. The full
gradient is that sum without the 1/W, so the backward pass gives each rank its slice of ∂L/∂x times
the world size W. This needs no communication.
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


def should_gather(gather_distributed: bool | None) -> bool:
    """Whether to share rows across processes: not disabled, and a group of two or more."""
    return (
        gather_distributed is not False
        and dist.is_available()
        and dist.is_initialized()
        and dist.get_world_size() > 1
    )


def all_gather_with_grad(tensor: Tensor) -> Tensor:
    """Concatenate every rank's rows in rank order, [N_r, ...] -> [Σ N_r, ...], differentiably.

    The row counts N_r may differ; the other dimensions and the dtype may not. The gradient of
    ``tensor`` is W times its slice of the gathered gradient, which is exact after averaging over W
    ranks if every rank computes the same loss from the result.

    Raises:
        RuntimeError: no process group is initialised.
    """
    counts = row_counts(tensor.size(0), device=tensor.device)[:, 0].tolist()
    return gather_rows(tensor, counts)


def all_gather_no_grad(tensor: Tensor) -> Tensor:
    """Concatenate every rank's rows in rank order, [N_r, ...] -> [Σ N_r, ...], detached.

    The row counts may differ; the other dimensions and the dtype may not.

    Raises:
        RuntimeError: no process group is initialised.
    """
    return all_gather_with_grad(tensor.detach())


def row_counts(rows: int, *flags: bool, device: torch.device) -> Tensor:
    """Every rank's row count and flags, int64 [W, 1 + flags], in one collective call."""
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "torch.distributed has no process group: call init_process_group before gathering"
        )
    mine = torch.tensor([rows, *flags], dtype=torch.int64, device=device)
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, mine)
    return torch.stack(everyone)


def gather_rows(tensor: Tensor, counts: list[int]) -> Tensor:
    """As `all_gather_with_grad`, with the row counts already known."""
    if len(counts) == 1:
        return tensor
    return _GatherRows.apply(tensor, counts)  # pyright: ignore[reportReturnType]


class _GatherRows(Function):
    @staticmethod
    def forward(tensor: Tensor, counts: list[int]) -> Tensor:
        # Collectives need equal shapes, and not every backend supports booleans.
        sent = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor
        padded = sent.new_zeros(max(counts), *sent.shape[1:])
        padded[: sent.size(0)] = sent
        received = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(received, padded)
        rows = [r[:n] for r, n in zip(received, counts, strict=True)]
        return torch.cat(rows).to(tensor.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        counts = inputs[1]
        rank = dist.get_rank()
        ctx.start, ctx.rows, ctx.world = sum(counts[:rank]), counts[rank], len(counts)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].narrow(0, ctx.start, ctx.rows) * ctx.world, None
