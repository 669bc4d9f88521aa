"""Change MLflow's process-wide settings for our own calls, and restore them afterwards.

The process may be a notebook whose own MLflow calls need other time-outs, retries and log levels,
so no setting outlives the call that needs it.
"""

import importlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

_TELEMETRY = "MLFLOW_DISABLE_TELEMETRY"

ENVIRONMENT = {
    # Read when MLflow is first imported.
    _TELEMETRY: "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's default of 7 retries of 120 s would block training for a quarter of an hour.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
"""Our settings for MLflow; the user's own take precedence."""

_NOISE = {
    "alembic": logging.ERROR,
    # Database errors are raised as well as logged, with a traceback; raising is enough.
    "mlflow.store.db": logging.CRITICAL,
}
_LEVELS = {"mlflow": logging.ERROR, **_NOISE}


class _Borrowed:
    """The settings, shared by threads: the first applies them and the last restores them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._added: list[str] = []
        self._levels: dict[str, int] = {}

    def take(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            # If MLflow is already imported, its telemetry is the user's choice.
            theirs = [_TELEMETRY] if "mlflow" in sys.modules else []
            self._added = [n for n in ENVIRONMENT if n not in os.environ and n not in theirs]
            os.environ.update({name: ENVIRONMENT[name] for name in self._added})
            # Import first: MLflow sets log levels on import, and those are the ones to restore.
            importlib.import_module("mlflow")
            asked = _LEVELS if "MLFLOW_LOGGING_LEVEL" not in os.environ else _NOISE
            self._levels = {name: logging.getLogger(name).level for name in asked}
            for name, level in asked.items():
                logging.getLogger(name).setLevel(level)

    def give_back(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            for name in self._added:
                os.environ.pop(name, None)
            for name, level in self._levels.items():
                logging.getLogger(name).setLevel(level)


_borrowed = _Borrowed()


@contextmanager
def mlflow_settings() -> Iterator[None]:
    """Short time-outs, no retries and less logging while the block runs; blocks may overlap."""
    _borrowed.take()
    try:
        yield
    finally:
        _borrowed.give_back()


@contextmanager
def importing_mlflow() -> Iterator[None]:
    """:func:`mlflow_settings`, without the warnings raised while MLflow is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mlflow_settings():
            yield


class ScopedClient:
    """An MLflow client that makes each call under :func:`mlflow_settings`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        @wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            with mlflow_settings():
                return method(*arguments, **options)

        return call
