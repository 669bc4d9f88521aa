"""Look up which jobs have a finished run in MLflow, fast enough for thousands of runs."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rarelab.tracking import store, tables

_TAGS = ("signature", "code", "data", "status")
_IF_ANY = ("kind", "searched")
_AT_ONCE = 8


def finished(uri: str, experiment: str, signatures: Sequence[str]) -> dict[str, dict[str, str]]:
    """The finished runs of the ``signatures``: run id -> ``signature``, ``code`` and ``data``,
    and ``kind`` and ``searched`` where they have such a tag.

    An sqlite file takes one query; any other store takes one search per signature, several in
    parallel. A store that does not exist has no runs.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    with store.reaching(uri):
        tags = _tags(uri, experiment, signatures)
    wanted = set(signatures)
    runs = {run_id: _plain(of_run) for run_id, of_run in tags.items()}
    return {
        run_id: run
        for run_id, run in runs.items()
        if run.get("signature") in wanted and run.get("status") == "done" and {*_TAGS} <= {*run}
    }


def _tags(uri: str, experiment: str, signatures: Sequence[str]) -> dict[str, dict[str, str]]:
    path = store.sqlite_path(uri)
    if path is not None:
        if not path.is_file() or not tables.is_ready(path):
            return {}
        found = tables.finished_tags(path, experiment)
        if found is not None:
            return found
    return _search(uri, experiment, signatures)


def _search(uri: str, experiment: str, signatures: Sequence[str]) -> dict[str, dict[str, str]]:
    client = store.client(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return {}

    def search(signature: str) -> list[Any]:
        query = f"attributes.status = 'FINISHED' AND tags.`rarelab.signature` = '{signature}'"
        return list(client.search_runs([found.experiment_id], query))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(search, signatures)
        return {run.info.run_id: dict(run.data.tags) for answer in answers for run in answer}


def _plain(tags: Mapping[str, str]) -> dict[str, str]:
    return {
        name: tags[f"rarelab.{name}"] for name in (*_TAGS, *_IF_ANY) if f"rarelab.{name}" in tags
    }
