"""The processes that train one model together, and what they do together.

All of them see the same batch and hold the same weights. Each scores its own part of the rows; the
logits are gathered, and every process evaluates the loss on the whole batch, so that queue, clock,
schedule, health and random streams are the same everywhere and no loss has to know of the others.
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
    """What a run trains, as far as the processes must agree on it."""

    @property
    def loss(self) -> nn.Module: ...


class TrainingState(Protocol):
    """A run between two steps: where it stands, and all of its state as plain data."""

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
    """One process: it does all of it, and has nobody to tell."""

    def share(self, course: TrainingState) -> None:
        """Put every process where the first one stands."""

    def mine(self, rows: Tensor) -> Tensor:
        """The part of some rows that this process scores, at least one row."""
        return rows

    def scores(self, model: nn.Module, x: Tensor, rows: int) -> Tensor:
        """The model's logits of all ``rows`` rows, of which ``x`` are this process's."""
        return model(x)

    def gathered(self, scores: Tensor, rows: int) -> Tensor:
        """The scores of all ``rows`` rows, of which ``scores`` are this process's."""
        return scores

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the mean of the gradients that all of them found."""


@final
class Ranks(Team):
    """The processes of torch's process group, one of which is this.

    A part is as large as another, give or take one row. With more processes than rows, one without
    rows scores the first one and hands nothing of it on, so that its gradients are zeros of the
    right shapes. The gradient of the gathered logits that a process hands to its own part is taken
    times the number of processes (see :mod:`rarelab.losses.gather`), and the mean over them is then
    the gradient of one process alone, to rounding.

    Args:
        missing: what is known of the processes that are gone, for the message.

    Raises (from every method that waits for the others):
        Deserted: one of them is gone.
    """

    def __init__(self, missing: Callable[[], str | None] = lambda: None) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._missing = missing
        self._course: TrainingState | None = None

    def share(self, course: TrainingState) -> None:
        self._course = course
        for part in course.work.loss.modules():
            if hasattr(part, "gather_distributed"):
                part.gather_distributed = False  # pyright: ignore - its rows are all there already
        state = io.BytesIO()
        if self.rank == 0:
            torch.save(course.state_dict(), state)
        state = io.BytesIO(self._broadcast(state.getvalue()))
        course.load_state_dict(torch.load(state, map_location="cpu", weights_only=True))

    def agree(self, facts: dict[str, str]) -> None:
        """Refuse processes that do not train the same: each names what it trains.

        Raises:
            RarelabError: on every process, naming one that differs from the first and in what.
        """
        for name, fact in facts.items():
            digest = hashlib.sha256(fact.encode()).digest()
            mine = torch.tensor([list(digest)], dtype=torch.uint8)
            with self._together():
                others = all_gather_no_grad(mine)
            differ = (others != others[0]).any(1).nonzero().flatten().tolist()
            if differ:
                raise RarelabError(
                    f"process {differ[0]} has another {name} than process 0: start all of them "
                    "with the same command, data and version"
                )

    def mine(self, rows: Tensor) -> Tensor:
        start, stop = list(pairwise(accumulate(self._counts(len(rows)), initial=0)))[self.rank]
        return rows[start:stop] if start < stop else rows[:1]

    def scores(self, model: nn.Module, x: Tensor, rows: int) -> Tensor:
        assert self._course is not None
        # What layers draw differs by process; the stream that the processes share stays shared.
        with drawing_apart(self._course.epoch, self._course.step, self.rank):
            logits = model(x)
        return self.gathered(logits, rows)

    def gathered(self, scores: Tensor, rows: int) -> Tensor:
        counts = self._counts(rows)
        with self._together():
            return gather_rows(scores[: counts[self.rank]], counts)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """See :class:`Team`. Where some processes did not use a parameter theirs count as zeros;
        where none did, there is still no gradient."""
        by_type: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.requires_grad:
                by_type.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        for group in by_type.values():
            self._average(group)

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
        """How many of some rows each process scores."""
        each, more = divmod(rows, self.size)
        return [each + (rank < more) for rank in range(self.size)]

    def _broadcast(self, content: bytes) -> bytes:
        """What the first process has to say."""
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
        """Where the processes wait for each other, and learn that one is gone."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise Deserted(self._missing() or f"another process is gone ({reason})") from error
