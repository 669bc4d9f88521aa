"""Which jobs have a finished run in MLflow, asked in time for a store of thousands of runs."""

import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from rarelab.tracking import store

_TAGS = ("signature", "code", "data", "status")
_AT_ONCE = 8
_QUERY = """
SELECT tags.run_uuid, tags.key, tags.value
FROM tags JOIN runs ON runs.run_uuid = tags.run_uuid
          JOIN experiments ON experiments.experiment_id = runs.experiment_id
WHERE experiments.name = ? AND runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'
  AND tags.key IN ('rarelab.signature', 'rarelab.code', 'rarelab.data', 'rarelab.status')
"""


def finished(uri: str, experiment: str, signatures: Sequence[str]) -> dict[str, dict[str, str]]:
    """The finished runs of the ``signatures``: run id -> ``signature``, ``code`` and ``data``.

    An sqlite file is asked by one query of its tables (MLflow's own search reads all metrics and
    parameters too, and takes seconds); any other store by one search a signature, several at
    once. No store is no run.
    """
    path = store.sqlite_path(uri)
    runs = (
        _from_server(uri, experiment, signatures) if path is None else _from_file(path, experiment)
    )
    wanted = set(signatures)
    return {
        run_id: tags
        for run_id, tags in runs.items()
        if tags.get("signature") in wanted and tags.get("status") == "done" and {*_TAGS} <= {*tags}
    }


def _from_file(path: Any, experiment: str) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    runs: dict[str, dict[str, str]] = {}
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        for run_id, key, value in db.execute(_QUERY, [experiment]):
            runs.setdefault(run_id, {})[key.removeprefix("rarelab.")] = value
    return runs


def _from_server(uri: str, experiment: str, signatures: Sequence[str]) -> dict[str, dict[str, str]]:
    client = store.client(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return {}

    def search(signature: str) -> list[Any]:
        query = f"attributes.status = 'FINISHED' AND tags.`rarelab.signature` = '{signature}'"
        return list(client.search_runs([found.experiment_id], query))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        runs = [run for answer in pool.map(search, signatures) for run in answer]
    return {
        run.info.run_id: {
            name: run.data.tags[f"rarelab.{name}"]
            for name in _TAGS
            if f"rarelab.{name}" in run.data.tags
        }
        for run in runs
    }
