"""The few questions put to the tables of MLflow's sqlite store, past its public interface.

Nothing depends on them but time: where the tables are not as MLflow 3.13 to 3.17 lays them out, the
answers come through :class:`mlflow.MlflowClient`, seconds later.
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
    """Whether a file holds a finished schema, asked without importing MLflow or making the file.

    Raises:
        sqlite3.DatabaseError: the file is no sqlite database, or a damaged one.
    """
    try:
        with closing(_read_only(path)) as db:
            revision = db.execute("SELECT version_num FROM alembic_version").fetchone()
            default = db.execute("SELECT 1 FROM experiments WHERE experiment_id = 0").fetchone()
    except sqlite3.OperationalError:
        return False
    return bool(revision and default)


def finished_tags(path: Path, experiment: str) -> dict[str, dict[str, str]] | None:
    """The ``rarelab.*`` tags of an experiment's finished runs, by run id; None if the tables are
    not the ones known here.

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
    """Set where the artifacts of the default experiment go, in a store that has no other yet."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE experiments SET artifact_location = ?", [location])


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
