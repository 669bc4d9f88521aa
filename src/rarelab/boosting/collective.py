"""XGBoost's own collective: several processes grow one model, each on its part of the rows."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from typing import Any, Protocol

from torch import Tensor

PATIENCE = 600
"""Seconds that a process waits for one that is alive but does not respond."""

GOODBYE = 10
"""Seconds that the first process waits for the others to leave."""


class Sharing(Protocol):
    """The processes that grow a model together, as one of them sees them.

    ``host`` is an address at which the others reach the first one.
    """

    rank: int
    size: int
    host: str

    def mine(self, rows: Tensor) -> Tensor:
        """The part of ``rows`` that belongs to this process."""
        ...

    def told(self, text: str) -> str:
        """The first process's ``text``."""
        ...

    def deserted(self, reason: str) -> Exception:
        """The error to end with when another process does not answer."""
        ...


@contextmanager
def collective(team: Sharing) -> Iterator[None]:
    """While the block runs, XGBoost's quantiles and histograms are those of all processes' rows.

    XGBoost brings its own sockets: the first process has a tracker at which the others ask for
    each other's addresses. Ranks are those of the team, so that sums have the same bits every time.

    Raises:
        Exception: what ``team.deserted`` says, if XGBoost fails.
    """
    from xgboost import collective
    from xgboost.core import XGBoostError
    from xgboost.tracker import RabitTracker

    tracker: Any = None
    try:
        if team.rank == 0:
            tracker = RabitTracker(n_workers=team.size, host_ip=team.host, sortby="task")
            tracker.start()
        place = json.loads(team.told(json.dumps(tracker.worker_args() if tracker else {})))
        with redirect_stdout(StringIO()):  # it prints its rank
            collective.init(dmlc_task_id=f"{team.rank:04}", dmlc_timeout=PATIENCE, **place)
        yield
        with suppress(XGBoostError):  # all is done; now each says goodbye
            collective.finalize()
            if tracker is not None:
                tracker.wait_for(GOODBYE)
    except XGBoostError as error:
        raise team.deserted(f"XGBoost: {_reason(error)}") from error
    finally:
        with suppress(XGBoostError):
            collective.finalize()  # nothing happens if it is done
        if tracker is not None:
            with suppress(XGBoostError):
                tracker.free()


def _reason(error: Exception) -> str:
    """XGBoost's own words, the innermost alone, without times, places in its source and stack."""
    lines = str(error).partition("Stack trace")[0].splitlines()
    said = [line.rpartition("]: ")[2].strip(" :") for line in lines if line.startswith("- ")]
    return said[-1] if said else str(error).splitlines()[0]
