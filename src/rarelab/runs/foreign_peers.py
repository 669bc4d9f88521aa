"""The runs whose test rows a file of predictions must be of, and the file's rows in their order."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rarelab.data.tables.levels import level_text
from rarelab.errors import RequestError
from rarelab.records.load import Records, Run
from rarelab.records.names import ARM
from rarelab.runs.foreign_rows import Request, Rows
from rarelab.tracking import store


@dataclass(frozen=True)
class Peer:
    """A recorded run whose test rows these are, and their labels and ids."""

    run: Run
    labels: NDArray[np.int64]
    ids: list[str] | None


def peers_of(asked: Request, home: Path, uri: str | None) -> list[Peer]:
    """The finished runs of the experiment with their test rows; none if it is new."""
    file = store.sqlite_path(store.resolve_uri(home, uri))
    if file is not None and not file.is_file():
        return []
    records = Records(home, uri)
    if asked.experiment not in records.experiments():
        return []
    found = []
    for run in records.runs(asked.experiment):
        path = records.file(run, "predictions.parquet") if run.status == "done" else None
        if path is not None:
            table = pq.read_table(path, filters=[("split", "==", "test")])
            kept = asked.id if asked.id in table.column_names else None
            ids = [level_text(value) for value in table[kept].to_pylist()] if kept else None
            found.append(Peer(run, table["target"].to_numpy(), ids))
    return found


def placed(asked: Request, test: Rows, peers: Sequence[Peer]) -> tuple[dict[str, str], str, Rows]:
    """The parameters of the data that the test rows are of, a digest of the rows, and the rows in
    the order of the experiment's runs.

    Raises:
        RequestError: the rows are not the experiment's, or its arm already has a run on them.
    """
    of_split = [p for p in peers if asked.split is None or p.run.split_seed == asked.split]
    if not of_split:
        return _new_data(asked, peers), _digest(test.labels), test
    peer, rows = _aligned(asked, test, of_split)
    digest = peer.run.digest or _digest(rows.labels)
    _refuse_twice(asked, digest, peers)
    return {k: v for k, v in peer.run.params.items() if _is_data(k)}, digest, rows


def _new_data(asked: Request, peers: Sequence[Peer]) -> dict[str, str]:
    """The data of rows that no run has: a new experiment's, or a further split of recorded runs."""
    trained = sorted({str(p.run.split_seed) for p in peers if ARM not in p.run.params})
    if trained:
        raise RequestError(
            f"split={asked.split}: no run of {asked.experiment} has this split;"
            f" choose from: {', '.join(trained)}"
        )
    split = {} if asked.split is None else {"dataset.split_seed": str(asked.split)}
    group = {} if asked.group is None else {"dataset.group": asked.group}
    known = {k: v for peer in peers for k, v in peer.run.params.items() if _is_data(k)}
    return (known or {"dataset": asked.experiment, **group}) | split


def _aligned(asked: Request, test: Rows, peers: Sequence[Peer]) -> tuple[Peer, Rows]:
    """The run whose test rows these are, and these rows in its order.

    Where the rows are drawn anew for each seed, only a run of the same seed has them.
    """
    same_seed = [peer for peer in peers if asked.seed in (None, peer.run.seed)]
    if not same_seed and len({peer.run.digest for peer in peers}) > 1:
        seeds = sorted({peer.run.seed for peer in peers if peer.run.seed is not None})
        raise RequestError(
            f"seed={asked.seed}: the experiment's runs have different test rows, and none has this"
            f" seed; choose from: {', '.join(map(str, seeds))}"
        )
    # Of several runs on the same rows one is enough, and best one that kept ids.
    different: dict[str, Peer] = {}
    for peer in sorted(same_seed or peers, key=lambda peer: peer.ids is None):
        different.setdefault(peer.run.digest or peer.run.run_id, peer)
    refusals, found = [], []
    for peer in different.values():
        try:
            found.append((peer, _in_order(asked, test, peer)))
        except RequestError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    fit = sorted({str(peer.run.split_seed) for peer, _ in found})
    if len(fit) > 1:
        raise RequestError(
            f"{asked.file}: these labels fit the test rows of several splits"
            f" ({', '.join(fit)}): say which with split=, or align the rows with id="
        )
    return found[0]


def _in_order(asked: Request, test: Rows, peer: Peer) -> Rows:
    expected = len(peer.labels)
    if len(test) != expected:
        raise RequestError(
            f"{asked.file}: {len(test):,} rows, the experiment's test rows are {expected:,}"
        )
    if peer.ids is not None and asked.id is not None:
        place = {level_text(value): i for i, value in enumerate(test.kept[asked.id])}
        if len(place) < expected:
            raise RequestError(f"id={asked.id}: {expected - len(place):,} values occur twice")
        unknown = [value for value in peer.ids if value not in place]
        if unknown:
            raise RequestError(
                f"id={asked.id}: {len(unknown):,} of the experiment's test rows are not in"
                f" {asked.file}, such as {unknown[0]!r}"
            )
        test = test.take(np.array([place[value] for value in peer.ids]))
    differ = int((test.labels != peer.labels).sum())
    if differ:
        way_out = "" if peer.ids else "; are they in the order of its predictions.parquet?"
        raise RequestError(
            f"target={asked.target}: {differ:,} of {expected:,} labels differ from those of the"
            f" experiment's test rows{way_out}"
        )
    return test


def _refuse_twice(asked: Request, digest: str, peers: Sequence[Peer]) -> None:
    for run in (peer.run for peer in peers):
        same = run.params.get(ARM) == asked.arm and run.seed == asked.seed
        if same and run.digest == digest:
            raise RequestError(
                f"{name_of(asked)} is already recorded in {asked.experiment} ({run.run_id}):"
                " choose another seed= or arm=, or delete that run in `rarelab ui`"
            )


def _is_data(key: str) -> bool:
    return key.partition(".")[0] == "dataset"


def _digest(labels: NDArray[np.int64]) -> str:
    return hashlib.sha256(labels.tobytes()).hexdigest()


def name_of(asked: Request) -> str:
    return f"{ARM}={asked.arm}" + ("" if asked.seed is None else f" seed={asked.seed}")
