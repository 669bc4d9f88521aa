"""``rarelab record FILE``: the predictions of another program become a run like a trained one."""

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from omegaconf import OmegaConf

from rarelab.data.tables.levels import level_text
from rarelab.errors import RequestError
from rarelab.metrics.table import AUCPR
from rarelab.predict.settings import parsed
from rarelab.quoting import unquoted
from rarelab.records.load import Records, Run
from rarelab.records.names import ARM
from rarelab.runs.claim import claim
from rarelab.runs.evaluation import evaluate_and_write
from rarelab.runs.foreign_rows import Request, Rows, read_rows
from rarelab.streams import stream_seed
from rarelab.tracking import MlflowSink, RunRecord, owner, store, write_environment
from rarelab.tracking.naming import experiment_name
from rarelab.training.history import History
from rarelab.training.loop import validation_row

KIND = {"rarelab.kind": "recorded"}


@dataclass(frozen=True)
class Peer:
    """A recorded run whose test rows these are, and their labels and ids."""

    run: Run
    labels: NDArray[np.int64]
    ids: list[str] | None


def request(file: str, settings: Sequence[str]) -> Request:
    """Build the request from ``KEY=VALUE`` settings.

    Raises:
        RequestError: an unknown key, an invalid value, or a required key that is missing.
    """
    keys = [key for key in Request.__annotations__ if key != "file"]
    given = parsed(settings, {**dict.fromkeys(keys, unquoted), "seed": _seed})
    for key in ("experiment", "arm", "target", "score"):
        if key not in given:
            raise RequestError(f"{key}= is missing: expected experiment= arm= target= score=")
    experiment_name(given["experiment"])
    return Request(file, **given)


def record(asked: Request, home: Path, uri: str | None = None) -> str:
    """Record the predictions with every metric, curve and figure of their test rows; a summary.

    Raises:
        RequestError: the file lacks a column, a score is not finite, the labels are not of two
            classes, the test rows are not those of the experiment, or the arm already has a run
            with this seed. Nothing is recorded then.
    """
    splits, classes = read_rows(asked)
    peers = _peers(asked, home, uri)
    if peers:
        peer, splits["test"] = _aligned(asked, splits["test"], peers)
        data = {key: value for key, value in peer.run.params.items() if _is_data(key)}
        digest = peer.run.digest or _digest(splits["test"].labels)
        _refuse_twice(asked, digest, peers)
    else:
        data = {"dataset": asked.experiment}
        digest = _digest(splits["test"].labels)
    params = {**data, ARM: asked.arm, "seed": str(asked.seed)}
    signature = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
    tags = {
        **KIND,
        "rarelab.signature": signature,
        "rarelab.code": "recorded",
        "rarelab.data": f"{Path(asked.file).name}, target {asked.target}, score {asked.score}",
        "rarelab.data_digest": digest,
        "rarelab.rows": f"0/{len(splits.get('val', ()))}/{len(splits['test'])}",
        "rarelab.command": shlex.join(_command(asked)),
    }
    sink = MlflowSink(uri, asked.experiment, str(home))
    directory, _ = claim(
        home / "runs" / asked.experiment, f"{_plain(asked.arm)}-s{asked.seed}-{signature[:8]}"
    )
    try:
        write_facts(directory, asked, splits)
        with _recorded(sink, directory, params, tags) as history:
            metrics = _evaluate(directory, asked, splits, classes, history)
    finally:
        owner.release(directory)
    aucpr, low, high = (metrics[f"test/aucpr{end}"] for end in ("", "_lo", "_hi"))
    return (
        f"{ARM}={asked.arm} seed={asked.seed}: {len(splits['test']):,} test rows,"
        f" {int(splits['test'].labels.sum()):,} positive;"
        f" test AUCPR {aucpr:.4f} ({low:.4f} to {high:.4f})\n"
        f"recorded in {directory}\ncompare it with: rarelab compare experiment={asked.experiment}"
    )


def _peers(asked: Request, home: Path, uri: str | None) -> list[Peer]:
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


def _aligned(asked: Request, test: Rows, peers: Sequence[Peer]) -> tuple[Peer, Rows]:
    """The run whose test rows these are, and these rows in its order.

    Where the rows are drawn anew for each seed, only a run of the same seed has them.
    """
    same_seed = [peer for peer in peers if peer.run.seed == asked.seed]
    if not same_seed and len({peer.run.digest for peer in peers}) > 1:
        seeds = sorted({peer.run.seed for peer in peers if peer.run.seed is not None})
        raise RequestError(
            f"seed={asked.seed}: the experiment's runs have different test rows, and none has this"
            f" seed; choose from: {', '.join(map(str, seeds))}"
        )
    refusals = []
    for peer in same_seed or peers:
        try:
            return peer, _in_order(asked, test, peer)
        except RequestError as error:
            refusals.append(error)
    raise refusals[0]


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
                f"{ARM}={asked.arm} seed={asked.seed} is already recorded in"
                f" {asked.experiment} ({run.run_id}): choose another seed= or arm=, or delete"
                " that run in `rarelab ui`"
            )


def write_facts(directory: Path, asked: Request, splits: Mapping[str, Rows]) -> None:
    """Write what is known of the run: the request, the environment and the data."""
    predictions = {"file": str(Path(asked.file).absolute())} | {
        key: getattr(asked, key)
        for key in ("target", "score", "positive_label", "split_col", "id", "group")
    }
    config = {ARM: asked.arm, "seed": asked.seed, "predictions": predictions}
    OmegaConf.save(OmegaConf.create(config), directory / "config.yaml")
    write_environment(directory)
    prevalence = {name: float(rows.labels.mean()) for name, rows in splits.items()}
    facts = json.dumps({"prevalence": prevalence, "notes": []}, indent=1)
    (directory / "data.json").write_text(facts, encoding="utf-8")


@contextmanager
def _recorded(
    sink: MlflowSink, directory: Path, params: dict[str, str], tags: dict[str, str]
) -> Iterator[History]:
    """The history of an open run, closed with its status."""
    sink.open(RunRecord(directory.name, params, tags, directory))
    try:
        yield History(directory / "history.jsonl", [sink])
    except BaseException as error:
        sink.close("error" if isinstance(error, Exception) else "interrupted", directory)
        raise
    sink.close("done", directory)


def _evaluate(
    directory: Path,
    asked: Request,
    splits: Mapping[str, Rows],
    classes: Sequence[str],
    history: History,
) -> dict[str, float]:
    if "val" in splits:
        row = validation_row(*splits["val"].scored(), AUCPR)
        history.append(0, {**row, "best/val_aucpr": row["val/aucpr"]})
    else:
        history.append(0, {})
    metrics = evaluate_and_write(
        directory,
        {name: rows.scored() for name, rows in splits.items()},
        classes,
        seed=stream_seed(asked.seed, "bootstrap"),
        origins={name: rows.kept for name, rows in splits.items()},
    )
    history.append(0, metrics)
    return metrics


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise RequestError(f"seed={text}: expected a whole number, for example 0")
    return int(text)


def _is_data(key: str) -> bool:
    return key.partition(".")[0] == "dataset"


def _digest(labels: NDArray[np.int64]) -> str:
    return hashlib.sha256(labels.tobytes()).hexdigest()


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_.-" else "_" for c in name)[:80]


def _command(asked: Request) -> list[str]:
    keys = [key for key in Request.__annotations__ if key != "file"]
    given = [(key, value) for key in keys if (value := getattr(asked, key)) is not None]
    return ["rarelab", "record", asked.file, *(f"{key}={value}" for key, value in given)]
