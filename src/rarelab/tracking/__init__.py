"""Recording runs: the history in MLflow, and everything recorded besides the metrics."""

from rarelab.tracking.dead import close_dead_runs
from rarelab.tracking.entry import RunRecord, read_status, write_status
from rarelab.tracking.environment import provenance, write_environment
from rarelab.tracking.replay import sync, sync_run
from rarelab.tracking.sink import MlflowSink, NoSink
from rarelab.tracking.store import client, ensure_store, resolve_uri
from rarelab.tracking.ui import serve

__all__ = [
    "MlflowSink",
    "NoSink",
    "RunRecord",
    "client",
    "close_dead_runs",
    "ensure_store",
    "provenance",
    "read_status",
    "resolve_uri",
    "serve",
    "sync",
    "sync_run",
    "write_environment",
    "write_status",
]
