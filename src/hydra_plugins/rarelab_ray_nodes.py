"""One job on several nodes of a Ray cluster: a process on each, as torchrun would start them."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from rarelab.errors import RequestError
from rarelab.sweep.job import Job, Result

GRACE = 15.0
"""Seconds that the first process has to close its record when another one has failed."""


def processes(job: Job) -> int:
    """How many processes train a job."""
    return int(job.config["trainer"].get("devices", 1))


@dataclass
class Gang:
    """The processes of a job: the placement group that holds their nodes, the others' references,
    when one of them was found to have failed, and how."""

    group: Any
    others: Sequence[Any]
    failed: float = 0.0
    error: Exception | None = None


class Nodes:
    """Starts and ends the processes of jobs, each process on a node of its own.

    Args:
        demand: what a process occupies.
        work: called with a job and ``notes`` in its first process; gives its result.
        notes: of the runs that jobs have opened.

    Raises:
        RequestError: there are fewer nodes than the largest of ``jobs`` has processes.
    """

    def __init__(
        self,
        demand: Mapping[str, float],
        work: Callable[[Job, Any], Result],
        notes: Any,
        jobs: Sequence[Job],
    ) -> None:
        import ray

        self._ray, self._demand, self._work, self._notes = ray, dict(demand), work, notes
        self._gangs: dict[Any, Gang] = {}
        most = max(map(processes, jobs), default=1)
        if most > 1 and most > (found := sum(map(self._suits, ray.nodes()))):
            wanted = ", ".join(f"{amount:g} {name}" for name, amount in self._demand.items())
            raise RequestError(
                f"hydra.launcher.spread=true: trainer.devices={most} needs as many nodes with "
                f"{wanted or 'nothing'} each; the cluster has {found}"
            )

    def start(self, job: Job) -> Any:
        """Start the processes of a job; the reference to its result."""
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        size, demand = processes(job), self._demand
        group = placement_group([demand or {"CPU": 0.001}] * size, strategy="STRICT_SPREAD")
        further = {name: demand[name] for name in demand if name not in ("CPU", "GPU")}
        nodes = [PlacementGroupSchedulingStrategy(group, index) for index in range(size)]
        meeting = (
            self._ray.remote(_meeting).options(num_cpus=0, scheduling_strategy=nodes[0]).remote()
        )
        # A process of its own each, as the place of a process is in its environment.
        task = self._ray.remote(max_calls=1)(_train)
        first, *others = [
            task.options(
                num_cpus=demand.get("CPU", 0),
                num_gpus=demand.get("GPU", 0),
                resources=further,
                max_retries=0,
                scheduling_strategy=node,
            ).remote(rank, size, meeting, job, self._work, self._notes)
            for rank, node in enumerate(nodes)
        ]
        self._gangs[first] = Gang(group, others)
        return first

    def broken(self) -> dict[Any, Exception]:
        """The jobs of which a process failed some time ago, and how."""
        for gang in self._gangs.values():
            if gang.error is None:
                gang.error = self._error(gang.others)
                gang.failed = monotonic()
        return {
            first: gang.error
            for first, gang in self._gangs.items()
            if gang.error is not None and monotonic() - gang.failed > GRACE
        }

    def end(self, first: Any) -> None:
        """End what is left of a job's processes."""
        from ray.util.placement_group import remove_placement_group

        if (gang := self._gangs.pop(first, None)) is not None:
            remove_placement_group(gang.group)

    def _error(self, others: Sequence[Any]) -> Exception | None:
        from ray.exceptions import RayError

        ended = self._ray.wait(list(others), num_returns=len(others), timeout=0)[0]
        for process in ended:
            try:
                self._ray.get(process)
            except RayError as error:
                return error
        return None

    def _suits(self, node: Mapping[str, Any]) -> bool:
        there = node["Resources"]
        return node["Alive"] and all(there.get(k, 0) >= v for k, v in self._demand.items())


def _meeting() -> tuple[str, int]:
    """An address of this node, and a port that is free on it."""
    import ray

    with socket.socket() as found:
        found.bind(("", 0))
        return ray.util.get_node_ip_address(), found.getsockname()[1]


def _train(
    rank: int,
    size: int,
    meeting: tuple[str, int],
    job: Job,
    work: Callable[[Job, Any], Result],
    notes: Any,
) -> Result | None:
    """Be one process of a job; the first one's result."""
    from omegaconf import OmegaConf

    from rarelab.processes.follow import follow_torchrun
    from rarelab.processes.place import Place

    address = {"MASTER_ADDR": meeting[0], "MASTER_PORT": str(meeting[1])}
    mine = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    os.environ.update(address | {name: str(value) for name, value in mine.items()})
    if rank == 0:
        return work(job, notes)
    place = Place.of_this_process()
    assert place is not None
    follow_torchrun(OmegaConf.create(job.config), place)
    return None
