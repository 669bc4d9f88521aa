"""Data-parallel training of one model by several processes.

All processes see the same batch and hold the same weights. Each scores its own part of the rows;
the logits are gathered, and every process evaluates the loss on the whole batch. Queue, clock,
schedule, health and random streams are therefore the same everywhere, and losses need not know
about processes.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any, Protocol, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rarelab.errors import RarelabError
from rarelab.losses.gather import all_gather_no_grad, gather_rows
from rarelab.streams import drawing_apart


class Trained(Protocol):
    """The part of a run's work that the processes must agree on."""

    @property
    def loss(self) -> nn.Module: ...


class TrainingState(Protocol):
    """A run between two steps: its position, and its full state as plain data."""

    @property
    def work(self) -> Trained: ...

    @property
    def epoch(self) -> int: ...

    @property
    def step(self) -> int: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Deserted(RarelabError):
    """Another process of the run is gone."""


class Team:
    """A single process, which does everything itself."""

    rank, size, host = 0, 1, "127.0.0.1"

    def share(self, course: TrainingState) -> None:
        """Give every process the first one's state."""

    def mine(self, rows: Tensor) -> Tensor:
        """The part of ``rows`` that this process scores, at least one row."""
        return rows

    def scores(self, model: Callable[[Tensor], Tensor], x: Tensor, rows: int) -> Tensor:
        """The model's logits for all ``rows`` rows; ``x`` is this process's part."""
        return model(x)

    def gathered(self, scores: Tensor, rows: int) -> Tensor:
        """The scores of all ``rows`` rows; ``scores`` is this process's part."""
        return scores

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over all processes."""

    def told(self, text: str) -> str:
        """The first process's ``text``."""
        return text

    def deserted(self, reason: str) -> Exception:
        """The error to end with when another process does not answer."""
        return Deserted(reason)


@final
class Ranks(Team):
    """The processes of torch's process group, including this one.

    The parts differ in size by at most one row. With more processes than rows, a process without
    rows scores the first row and discards the result, so that its gradients are zeros of the right
    shapes. Each process multiplies the gradient of its own part of the gathered logits by the
    number of processes (see :mod:`rarelab.losses.gather`), so that the mean over processes equals
    the gradient of a single process, up to rounding.

    Args:
        missing: describes the processes that are gone, for the message.
        host: an address at which the others reach the first process.

    Raises (from every method that waits for the others):
        Deserted: one of them is gone.
    """

    def __init__(
        self, missing: Callable[[], str | None] = lambda: None, host: str = Team.host
    ) -> None:
        self.rank, self.size, self.host = dist.get_rank(), dist.get_world_size(), host
        self._missing = missing
        self._course: TrainingState | None = None

    def share(self, course: TrainingState) -> None:
        self._course = course
        for part in course.work.loss.modules():
            if hasattr(part, "gather_distributed"):
                part.gather_distributed = False  # pyright: ignore - it gets all rows already
        state = io.BytesIO()
        if self.rank == 0:
            torch.save(course.state_dict(), state)
        state = io.BytesIO(self._broadcast(state.getvalue()))
        course.load_state_dict(torch.load(state, map_location="cpu", weights_only=True))

    def agree(self, facts: dict[str, str]) -> None:
        """Check that all processes train the same thing, described by ``facts``.

        Raises:
            RarelabError: on every process, naming one that differs from the first, and the fact.
        """
        for name, fact in facts.items():
            digest = hashlib.sha256(fact.encode()).digest()
            mine = torch.tensor([list(digest)], dtype=torch.uint8)
            with self._together():
                others = all_gather_no_grad(mine)
            differ = (others != others[0]).any(1).nonzero().flatten().tolist()
            if differ:
                raise RarelabError(
                    f"process {differ[0]} differs from process 0 in its {name}: start all "
                    "processes with the same command, data and version"
                )

    def mine(self, rows: Tensor) -> Tensor:
        start, stop = list(pairwise(accumulate(self._counts(len(rows)), initial=0)))[self.rank]
        return rows[start:stop] if start < stop else rows[:1]

    def scores(self, model: Callable[[Tensor], Tensor], x: Tensor, rows: int) -> Tensor:
        assert self._course is not None
        # Layers draw differently in each process; the shared random stream stays in step.
        with drawing_apart(self._course.epoch, self._course.step, self.rank):
            logits = model(x)
        return self.gathered(logits, rows)

    def gathered(self, scores: Tensor, rows: int) -> Tensor:
        counts = self._counts(rows)
        with self._together():
            return gather_rows(scores[: counts[self.rank]], counts)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """See :class:`Team`. A process that did not use a parameter counts as zero; if none did,
        the gradient stays None."""
        by_type: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.requires_grad:
                by_type.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        for group in by_type.values():
            self._average(group)

    def told(self, text: str) -> str:
        return self._broadcast(text.encode()).decode()

    def deserted(self, reason: str) -> Exception:
        return Deserted(self._missing() or f"another process is gone ({reason})")

    def _average(self, parameters: list[nn.Parameter]) -> None:
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        used = grads[0].new_tensor([p.grad is not None for p in parameters])
        flat = torch.cat([used, *(grad.flatten() for grad in grads)])
        with self._together():
            dist.all_reduce(flat)
        used, *means = flat.div_(self.size).split([len(grads), *(grad.numel() for grad in grads)])
        for parameter, share, mean in zip(parameters, used.tolist(), means, strict=True):
            parameter.grad = mean.view_as(parameter) if share else None

    def _counts(self, rows: int) -> list[int]:
        """How many of ``rows`` rows each process scores."""
        each, more = divmod(rows, self.size)
        return [each + (rank < more) for rank in range(self.size)]

    def _broadcast(self, content: bytes) -> bytes:
        """The first process's ``content``."""
        size = torch.tensor(len(content))
        with self._together():
            dist.broadcast(size, 0)
            payload = torch.empty(int(size), dtype=torch.uint8)
            if self.rank == 0:
                payload = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            dist.broadcast(payload, 0)
        return payload.numpy().tobytes()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Around collective operations: raises :class:`Deserted` if a process is gone."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise self.deserted(reason) from error
