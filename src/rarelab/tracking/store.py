"""The tracking store: resolve its address, and create it safely from concurrent processes."""

import functools
import getpass
import hashlib
import importlib
import os
import re
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, unquote, urlsplit

from rarelab.collector import importing
from rarelab.errors import RarelabError, RequestError, nearest
from rarelab.files import written_whole
from rarelab.tracking import tables
from rarelab.tracking.redact import redact_command, redact_uri, remember
from rarelab.tracking.settings import ScopedClient, importing_mlflow, mlflow_settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
_EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}
_LOCK_TIMEOUT = 120

# The bytes of the first schema this process created: MLflow's migrations take seconds.
_schema: list[bytes] = []


class StoreUnavailable(RarelabError):
    """The tracking store cannot be reached, opened or read; ``reason`` is one line without secrets.

    Runs and sweeps continue without it; a command that needs it ends with this error.
    """

    def __init__(self, uri: str, error: BaseException) -> None:
        self.reason = reason(error)
        super().__init__(f"the tracking store {redact_uri(uri)} is unavailable: {self.reason}")


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Turn whatever a store's driver raises into :class:`StoreUnavailable`."""
    try:
        yield
    except RarelabError:
        raise
    except Exception as error:
        raise StoreUnavailable(uri, error) from error


def resolve_uri(home: Path, uri: str | None = None) -> str:
    """The tracking URI: ``uri``, else ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` under ``home``.

    An sqlite path is made absolute.

    Raises:
        RequestError: MLflow cannot write runs to this kind of address.
    """
    origin = "tracking.uri" if uri else "MLFLOW_TRACKING_URI"
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not chosen:
        return sqlite_uri(home / "mlflow.db")
    remember(chosen)
    scheme = re.split(r"[+:]", chosen, maxsplit=1)[0]
    if scheme not in _SCHEMES or (scheme != "databricks" and "://" not in chosen):
        raise RequestError(
            f"{origin}={chosen}: expected sqlite:///PATH, a database or a server "
            f"(http://HOST:PORT), {nearest(scheme, _SCHEMES)}"
        )
    path = sqlite_path(chosen)
    return chosen if path is None else sqlite_uri(path)


def sqlite_uri(path: Path) -> str:
    """The sqlite URI of a file, absolute.

    Raises:
        RequestError: the path contains characters with a meaning in URIs (``?``, ``%20``).
    """
    absolute = path.expanduser().absolute()
    if "?" in str(absolute) or unquote(str(absolute)) != str(absolute):
        raise RequestError(
            f"{absolute}: an sqlite URI cannot hold a path with '?' or '%' and two digits; "
            "choose another folder with paths.home="
        )
    return f"sqlite:///{absolute.as_posix()}"


def sqlite_path(uri: str) -> Path | None:
    """The file behind an sqlite URI; None for any other URI."""
    if not uri.startswith("sqlite:"):
        return None
    return Path(uri.split("?", maxsplit=1)[0].removeprefix("sqlite:///")).absolute()


def artifact_root(uri: str, home: Path) -> Path | None:
    """The artifacts folder: beside an sqlite file, or under ``home`` for other databases.

    None for a server, which decides for itself.
    """
    path = sqlite_path(uri)
    if path is not None:
        return path.parent / "artifacts"
    return None if uri.startswith(("http", "databricks")) else home / "artifacts"


def client(uri: str, home: Path | None = None) -> "MlflowClient":
    """An MLflow client for a store, created if needed; MLflow's global state is unchanged.

    Raises:
        StoreUnavailable: the store does not exist and cannot be created.
    """
    import_mlflow(uri)
    with reaching(uri), mlflow_settings():
        ensure_store(uri, home)
        from mlflow import MlflowClient

        return cast("MlflowClient", ScopedClient(MlflowClient(uri)))


def ensure_store(uri: str, home: Path | None = None) -> None:
    """Create a store's schema if it has none, safely from several processes at once.

    MLflow creates its tables without a lock, and two concurrent first starts can leave an sqlite
    file that never opens again. Here one process creates them in a temporary file and renames it
    into place; the others wait. Servers (http) manage their own schema.

    Raises:
        StoreUnavailable: the store cannot be opened or created.
    """
    with reaching(uri):
        _ensure(uri, home)


def _ensure(uri: str, home: Path | None) -> None:
    if uri.startswith(("http", "databricks")):
        return
    root = artifact_root(uri, home or Path.cwd())
    path = sqlite_path(uri)
    if path is None:
        _knock(uri)
        with lock(_shared_lock(uri)):
            _open_store(uri, root)
    elif not tables.is_ready(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock(path.with_name(f"{path.name}.lock")):
            if not tables.is_ready(path):
                _make_sqlite(path, root)


def ensure_experiment(tracker: "MlflowClient", name: str, uri: str, home: Path) -> str:
    """The id of the experiment ``name``, created if needed and tagged for MLflow's model-training
    view. A deleted one is restored."""
    from mlflow.exceptions import MlflowException

    found = tracker.get_experiment_by_name(name)
    if found is None:
        root = artifact_root(uri, home)
        location = None if root is None else (root / _folder(name)).as_uri()
        try:
            return tracker.create_experiment(name, location, tags=_EXPERIMENT_KIND)
        except MlflowException:
            found = tracker.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        tracker.restore_experiment(found.experiment_id)
    for key, value in _EXPERIMENT_KIND.items():
        if found.tags.get(key) != value:
            tracker.set_experiment_tag(found.experiment_id, key, value)
    return found.experiment_id


def _make_sqlite(path: Path, root: Path | None) -> None:
    if path.exists() and path.stat().st_size:
        # Fail fast: MLflow retries for 100 s before it reports an unreadable or read-only file.
        with closing(sqlite3.connect(path)) as db:
            db.execute("BEGIN IMMEDIATE")
        # An existing file: MLflow adds missing tables, or says why it cannot.
        _open_store(sqlite_uri(path), root)
        return
    # A unique name, since MLflow keeps an engine for every address it has opened.
    with written_whole(path) as part:
        _fill_sqlite(part, root)


def _fill_sqlite(path: Path, root: Path | None) -> None:
    if not _schema:
        with _without_waiting():
            _open_store(sqlite_uri(path), root)
        with closing(sqlite3.connect(path)) as db:
            # WAL lets readers and the writer work without blocking each other.
            db.execute("PRAGMA journal_mode=WAL").fetchone()
        _schema.append(path.read_bytes())
        return
    path.write_bytes(_schema[0])
    tables.move_default_experiment(path, (root / "0").as_uri() if root else None)


@contextmanager
def _without_waiting() -> Iterator[None]:
    """Let sqlite not wait for the disk after each of MLflow's 67 migrations, which fill a file
    that counts only once it is complete."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def connected(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=MEMORY").fetchone()

    event.listen(Engine, "connect", connected)
    try:
        yield
    finally:
        event.remove(Engine, "connect", connected)


def _open_store(uri: str, root: Path | None) -> None:
    """Have MLflow create its tables and default experiment, then close the file."""
    import_mlflow(uri)
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with importing_mlflow():
        store = SqlAlchemyStore(uri, root.as_uri() if root else "artifacts")
        store.engine.dispose()


def _knock(uri: str) -> None:
    """Connect once to fail fast: MLflow retries an unreachable database for 100 s."""
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def import_mlflow(uri: str) -> None:
    """Import what a store needs, without opening it."""
    loaded = "mlflow.store.tracking.sqlalchemy_store" in sys.modules
    with nullcontext() if loaded else importing(), importing_mlflow():
        if not uri.startswith(("http", "databricks")):
            importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
            importlib.import_module("sqlalchemy.orm").configure_mappers()


def remember_newest_migration() -> None:
    """Look up MLflow's newest migration once, for this process and those forked from it: every
    client runs the files of all 67 to find it, a third of what opening a store takes."""
    from mlflow.store.db import utils

    look_up = getattr(utils, "_get_latest_schema_revision", None)
    if look_up is not None and not hasattr(look_up, "cache_info"):
        utils._get_latest_schema_revision = functools.cache(look_up)
        utils._get_latest_schema_revision()


class LockBusy(RarelabError):
    """Another process held a lock for longer than this one was willing to wait."""


@contextmanager
def lock(path: Path, patience: float = _LOCK_TIMEOUT) -> Iterator[None]:
    """Hold a file lock, waiting for it at most ``patience`` seconds.

    Every user with access to the folder may take the lock.

    Raises:
        LockBusy: another process held it all that time.
        OSError: the file cannot be created.
    """
    from filelock import FileLock, Timeout

    held = FileLock(path, timeout=patience, mode=0o666)
    try:
        held.acquire()
    except Timeout:
        raise LockBusy(f"{path}: another process has held this lock for {patience:g} s") from None
    try:
        yield
    finally:
        held.release()


def _folder(experiment: str) -> str:
    folder = quote(experiment, safe=" ")
    return folder if folder.strip(". ") else folder.replace(".", "%2E").replace(" ", "%20")


def _shared_lock(uri: str) -> Path:
    """The lock of a database server; one per user, as the temporary folder may not let users open
    each other's files."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return Path(tempfile.gettempdir()) / f"rarelab-{user}-{_digest(uri)}.lock"


def _digest(uri: str) -> str:
    return hashlib.sha256(urlsplit(uri)._replace(query="").geturl().encode()).hexdigest()[:12]


def reason(error: BaseException) -> str:
    """Why a store failed, in one line without secrets: the exception's class and first line."""
    if isinstance(error, StoreUnavailable):
        return error.reason
    text = str(error).strip().split("\n", maxsplit=1)[0][:300]
    return redact_command(f"{type(error).__name__}: {text}" if text else type(error).__name__)
