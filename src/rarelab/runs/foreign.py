"""``rarelab record FILE``: the predictions of another program become a run like a trained one."""

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rarelab.errors import RequestError
from rarelab.metrics.table import AUCPR
from rarelab.predict.settings import parsed
from rarelab.quoting import unquoted
from rarelab.records.names import ARM
from rarelab.runs.claim import claim
from rarelab.runs.evaluation import evaluate_and_write
from rarelab.runs.foreign_peers import name_of, peers_of, placed
from rarelab.runs.foreign_rows import Request, Rows, read_rows
from rarelab.runs.run import Outcome
from rarelab.streams import stream_seed
from rarelab.tracking import MlflowSink, RunRecord, owner, write_environment
from rarelab.tracking.naming import experiment_name
from rarelab.training.history import History
from rarelab.training.loop import validation_row

KIND = {"rarelab.kind": "recorded"}
FRAME = "the frame"
"""What stands for the file where the predictions are a frame."""


def request(file: str, settings: Sequence[str]) -> Request:
    """Build the request from ``KEY=VALUE`` settings.

    Raises:
        RequestError: an unknown key, an invalid value, or a required key that is missing.
    """
    keys = [key for key in Request.__annotations__ if key != "file"]
    given = parsed(
        settings,
        {**dict.fromkeys(keys, unquoted), "seed": _whole("seed"), "split": _whole("split")},
    )
    for key in ("experiment", "arm", "target", "score"):
        if key not in given:
            raise RequestError(f"{key}= is missing: expected experiment= arm= target= score=")
    return Request(file, **given)


def record(
    asked: Request, home: Path, uri: str | None = None, frame: Any = None
) -> tuple[Outcome, str]:
    """Record the predictions with every metric, curve and figure of their test rows; the run and a
    summary. ``frame``: the predictions, instead of those in the file.

    Raises:
        RequestError: the file lacks a column, a score is not finite, the labels are not of two
            classes, the test rows are not those of the experiment, or the arm already has a run
            with this seed. Nothing is recorded then.
    """
    experiment_name(asked.experiment)
    splits, classes = read_rows(asked, frame)
    data, digest, splits["test"] = placed(asked, splits["test"], peers_of(asked, home, uri))
    params = {**data, ARM: asked.arm}
    if asked.seed is not None:
        params["seed"] = str(asked.seed)
    signature = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
    tags = {
        **KIND,
        "rarelab.signature": signature,
        "rarelab.code": "recorded",
        "rarelab.data": f"{Path(asked.file).name}, target {asked.target}, score {asked.score}",
        "rarelab.data_digest": digest,
        "rarelab.rows": f"0/{len(splits.get('val', ()))}/{len(splits['test'])}",
        "rarelab.command": _command(asked, frame),
    }
    sink = MlflowSink(uri, asked.experiment, str(home))
    seed = "" if asked.seed is None else f"-s{asked.seed}"
    directory, _ = claim(
        home / "runs" / asked.experiment, f"{_plain(asked.arm)}{seed}-{signature[:8]}"
    )
    try:
        write_facts(directory, asked, splits)
        with _recorded(sink, directory, params, tags) as (run_id, history):
            metrics = _evaluate(directory, asked, splits, classes, history)
    finally:
        owner.release(directory)
    outcome = Outcome(run_id, "done", metrics, directory)
    return outcome, _summary(asked, splits["test"], outcome)


def _summary(asked: Request, test: Rows, run: Outcome) -> str:
    aucpr, low, high = (run.metrics[f"test/aucpr{end}"] for end in ("", "_lo", "_hi"))
    return (
        f"{name_of(asked)}: {len(test):,} test rows, {int(test.labels.sum()):,} positive;"
        f" test AUCPR {aucpr:.4f} ({low:.4f} to {high:.4f})\n"
        f"recorded in {run.directory}\n"
        f"compare it with: rarelab compare experiment={asked.experiment}"
    )


def write_facts(directory: Path, asked: Request, splits: Mapping[str, Rows]) -> None:
    """Write what is known of the run: the request, the environment and the data."""
    keys = ("target", "score", "positive_label", "split_col", "id", "group", "amount")
    file = asked.file if asked.file == FRAME else str(Path(asked.file).absolute())
    predictions = {"file": file} | {key: getattr(asked, key) for key in keys}
    config = {ARM: asked.arm, "seed": asked.seed, "predictions": predictions}
    OmegaConf.save(OmegaConf.create(config), directory / "config.yaml")
    write_environment(directory)
    prevalence = {name: float(rows.labels.mean()) for name, rows in splits.items()}
    facts = json.dumps({"prevalence": prevalence, "notes": []}, indent=1)
    (directory / "data.json").write_text(facts, encoding="utf-8")


@contextmanager
def _recorded(
    sink: MlflowSink, directory: Path, params: dict[str, str], tags: dict[str, str]
) -> Iterator[tuple[str, History]]:
    """Id and history of an open run, closed with its status."""
    run_id = sink.open(RunRecord(directory.name, params, tags, directory))
    try:
        yield run_id, History(directory / "history.jsonl", [sink])
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
        seed=stream_seed(asked.seed or 0, "bootstrap"),
        origins={name: rows.kept for name, rows in splits.items()},
    )
    history.append(0, metrics)
    return metrics


def _whole(key: str) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal():
            raise RequestError(f"{key}={text}: expected a whole number, for example 0")
        return int(text)

    return number


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_.-" else "_" for c in name)[:80]


def _command(asked: Request, frame: Any) -> str:
    keys = [key for key in Request.__annotations__ if key != "file"]
    given = [(key, value) for key in keys if (value := getattr(asked, key)) is not None]
    if frame is not None:
        return f"rarelab.record(frame, {', '.join(f'{key}={value!r}' for key, value in given)})"
    return shlex.join(["rarelab", "record", asked.file, *(f"{k}={value}" for k, value in given)])
