"""A few direct queries of MLflow's sqlite tables, bypassing its public interface for speed.

If the tables differ from the layout of MLflow 3.13 to 3.17, the same answers come from
:class:`mlflow.MlflowClient`, seconds later.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

_FINISHED = """
SELECT tags.run_uuid, tags.key, tags.value
FROM tags JOIN runs ON runs.run_uuid = tags.run_uuid
          JOIN experiments ON experiments.experiment_id = runs.experiment_id
WHERE experiments.name = ? AND runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'
  AND tags.key LIKE 'rarelab.%'
"""


def is_ready(path: Path) -> bool:
    """Whether a file holds a complete schema, without importing MLflow or creating the file.

    Raises:
        sqlite3.DatabaseError: the file is not an sqlite database, or is corrupt.
    """
    try:
        with closing(_read_only(path)) as db:
            revision = db.execute("SELECT version_num FROM alembic_version").fetchone()
            default = db.execute("SELECT 1 FROM experiments WHERE experiment_id = 0").fetchone()
    except sqlite3.OperationalError:
        return False
    return bool(revision and default)


def finished_tags(path: Path, experiment: str) -> dict[str, dict[str, str]] | None:
    """The ``rarelab.*`` tags of an experiment's finished runs, by run id; None if the tables'
    layout is unknown.

    MLflow's own search reads all metrics and parameters too, which takes seconds for thousands of
    runs.
    """
    runs: dict[str, dict[str, str]] = {}
    try:
        with closing(_read_only(path)) as db:
            for run_id, key, value in db.execute(_FINISHED, [experiment]):
                runs.setdefault(run_id, {})[key] = value
    except sqlite3.OperationalError as error:
        if "no such" in str(error):
            return None
        raise
    return runs


def move_default_experiment(path: Path, location: str | None) -> None:
    """Set the artifact location of the default experiment, in a store that has no other yet."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE experiments SET artifact_location = ?", [location])


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
