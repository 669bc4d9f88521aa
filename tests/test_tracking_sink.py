"""The sink and sync: everything arrives exactly once, and no MLflow failure stops a run."""

import json
import math
import shutil
import time
from pathlib import Path

import pytest

from rarelab.errors import RarelabError, RequestError
from rarelab.tracking import MlflowSink, NoSink, RunRecord, client, sync, sync_run
from rarelab.tracking import sink as sink_module
from rarelab.tracking.entry import load_entry, read_status, save_entry
from rarelab.tracking.store import ensure_experiment, lock, sqlite_uri
from rarelab.training.history import History

PARAMS = {"loss.temperature": "0.01", "model.hidden": "[64, 64]"}
TAGS = {"rarelab.signature": "0123abcd", "rarelab.code": "c0de", "rarelab.data": "da7a"}
CURVE = {"steps": [1, 2, 5], "values": [0.1, math.nan, 0.3]}


def record(home, name="job", **changes) -> RunRecord:
    directory = home / "runs" / "rarelab" / name
    directory.mkdir(parents=True, exist_ok=True)
    facts = {"params": PARAMS, "tags": TAGS, "directory": directory, **changes}
    return RunRecord(name, **facts)


def train(home, epochs=4, status="done", name="job", sink=None, **changes) -> str:
    """Record a run like the trainer: history first, then files, then the end."""
    sink = sink or MlflowSink(home=str(home))
    this = record(home, name, **changes)
    run_id = sink.open(this)
    history = History(this.directory / "history.jsonl", [sink])
    for epoch in range(epochs):
        history.append(epoch, {"train/loss": 1.0 / (1 + epoch), "val/aucpr": 0.1 * epoch})
    leave_files(this.directory)
    sink.close(status, this.directory)
    return run_id


def leave_files(directory: Path) -> None:
    curves = {"recall_at_q": CURVE, "precision_at_recall": CURVE, "exact": {"x": [0.5]}}
    (directory / "curves.json").write_text(json.dumps(curves))
    (directory / "config.yaml").write_text("seed: 0\n")
    (directory / "figures").mkdir(exist_ok=True)
    (directory / "figures" / "pr.png").write_bytes(b"png")


def runs(home, experiment="rarelab", uri=None):
    uri = uri or sqlite_uri(home / "mlflow.db")
    tracker = client(uri, home)
    return tracker.search_runs([ensure_experiment(tracker, experiment, uri, home)])


def points(home, run_id, key, uri=None):
    tracker = client(uri or sqlite_uri(home / "mlflow.db"), home)
    return [(m.step, m.value, m.timestamp) for m in tracker.get_metric_history(run_id, key)]


def history_of(home, key, name="job"):
    lines = (home / "runs" / "rarelab" / name / "history.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [(row["step"], row["metrics"][key], row["time"]) for row in rows]


def files(home, run_id):
    tracker = client(sqlite_uri(home / "mlflow.db"), home)
    return {f.path for f in tracker.list_artifacts(run_id)}


def is_level(home, run_id) -> None:
    for key in ("train/loss", "val/aucpr"):
        assert points(home, run_id, key) == history_of(home, key)


def test_a_finished_run_holds_params_tags_rows_curves_and_files(home):
    run_id = train(home)
    [run] = runs(home)
    assert run.info.run_id == run_id and run.info.run_name == "job"
    assert run.info.status == "FINISHED" and run.data.params == PARAMS
    assert TAGS.items() <= run.data.tags.items()
    assert run.data.tags["rarelab.status"] == "done"
    assert run.data.tags["mlflow.user"] and run.data.tags["mlflow.source.name"]
    is_level(home, run_id)
    ended = read_status(home / "runs/rarelab/job")["ended"]
    [one, two, five] = points(home, run_id, "curve/recall_at_q")
    assert [one, five] == [(1, 0.1, ended), (5, 0.3, ended)] and math.isnan(two[1])
    assert run.info.end_time == ended
    assert files(home, run_id) == {"config.yaml", "curves.json", "figures", "history.jsonl"}


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        ("done", "FINISHED"),
        ("diverged", "FAILED"),
        ("error", "FAILED"),
        ("interrupted", "KILLED"),
        ("pruned", "KILLED"),
    ],
)
def test_every_status_maps_to_an_mlflow_status(home, status, ending):
    train(home, status=status)
    [run] = runs(home)
    assert (run.info.status, run.data.tags["rarelab.status"]) == (ending, status)


def test_a_child_knows_its_parent(home):
    parent = train(home, name="sweep")
    child = train(home, name="sweep/0", parent=parent)
    found = {run.info.run_id: run for run in runs(home)}
    assert found[child].data.tags["mlflow.parentRunId"] == parent


def test_names_and_values_that_mlflow_would_refuse_or_alter(home):
    sink = MlflowSink(home=str(home))
    this = record(home, params={"a@b": "x" * 7000, "a=b": "1", "//": "2", "k" * 300: "3"})
    run_id = sink.open(this)
    metrics = {"test/class/>50K/aucpr": 0.5, "test/class/<50K/aucpr": 0.6, "train/loss": math.inf}
    History(this.directory / "history.jsonl", [sink]).append(0, {**metrics, "nan": math.nan})
    sink.close("diverged", this.directory)
    [run] = runs(home)
    assert len(run.data.params) == 4 and len(run.data.params["a_b"]) == 6000
    assert run.data.metrics["test/class/_50K/aucpr"] == 0.5
    assert sorted(run.data.metrics.values(), key=str)[:2] == [0.5, 0.6]
    assert math.isnan(run.data.metrics["nan"]) and math.isnan(run.data.metrics["train/loss"])
    assert "Infinity" in (this.directory / "history.jsonl").read_text()
    assert run_id == run.info.run_id


def test_secrets_reach_neither_the_store_nor_the_run_directory(home, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "hunter2hunter2")
    secret = {
        "tracking.uri": "postgresql://me:s3cr3t!@host/db",
        "dataset.api_key": "abcdef",
        "note": "see hunter2hunter2",
        "model.d_token": "192",
    }
    train(home, params=secret)
    [run] = runs(home)
    assert run.data.params["tracking.uri"] == "postgresql://***@host/db"
    assert run.data.params["model.d_token"] == "192"
    kept = (home / "runs/rarelab/job/record.json").read_text() + str(run.data.params)
    assert not [text for text in ("s3cr3t", "abcdef", "hunter2") if text in kept]


def test_rows_are_batched_to_bound_the_share_of_time_spent_writing(home, monkeypatch):
    clock, written = [0.0], []
    sink = MlflowSink(home=str(home))
    sink.open(record(home))
    monkeypatch.setattr(sink_module.time, "monotonic", lambda: clock[0])

    def push(points):
        written.append(clock[0])
        clock[0] += 0.5
        return len(points)

    monkeypatch.setattr(sink._writer, "push", push)
    sink._start, sink._spent = 0.0, 0.0
    for step in range(2000):
        clock[0] += 0.1
        sink({"step": step, "time": step, "metrics": {"train/loss": 1.0}})
        spent = 0.5 * len(written)
        # The budget can be exceeded by one write at most, whose cost is not known beforehand.
        assert spent <= clock[0] / 25 + 0.5
    assert 14 <= len(written) <= 18 and written[-1] > 190


def test_a_resumed_run_is_the_same_run_without_duplicates_or_conflicts(home):
    this = record(home)
    first = MlflowSink(home=str(home))
    run_id = first.open(this)
    history = History(this.directory / "history.jsonl", [first])
    for epoch in range(3):
        history.append(epoch, {"train/loss": float(epoch), "val/aucpr": 0.1})
    first._flush()
    before = points(home, run_id, "train/loss")
    # Killed: the history is cut to the checkpoint after epoch 0; epochs 1 and 2 are repeated.
    path = this.directory / "history.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    time.sleep(0.01)
    again = MlflowSink(home=str(home))
    changed = record(home, params={**PARAMS, "loss.temperature": "1e-2", "new": "1"})
    assert again.open(changed) == run_id
    [run] = runs(home)
    assert run.info.status == "RUNNING"
    resumed = History(path, [again])
    for epoch in range(1, 5):
        resumed.append(epoch, {"train/loss": float(epoch), "val/aucpr": 0.1})
    again.close("done", this.directory)
    [run] = runs(home)
    assert run.info.status == "FINISHED" and run.data.params == PARAMS
    after = points(home, run_id, "train/loss")
    assert after[:3] == before and [step for step, _, _ in after] == [0, 1, 2, 3, 4]


def test_a_failed_run_is_running_again_once_resumed(home):
    run_id = train(home, epochs=1, status="error")
    sink = MlflowSink(home=str(home))
    assert sink.open(record(home)) == run_id
    [run] = runs(home)
    assert (run.info.status, run.data.tags["rarelab.status"]) == ("RUNNING", "running")
    assert read_status(home / "runs/rarelab/job") is None


def test_a_resumed_run_deleted_in_mlflow_becomes_a_new_one(home):
    run_id = train(home, epochs=2)
    client(sqlite_uri(home / "mlflow.db"), home).delete_run(run_id)
    sink = MlflowSink(home=str(home))
    new = sink.open(record(home))
    sink.close("done")
    assert new != run_id
    is_level(home, new)


def test_sync_changes_nothing_that_is_up_to_date(home):
    run_id = train(home)
    assert sync(home) == "0 runs synced (0 points), 1 up to date"
    is_level(home, run_id)
    assert len(runs(home)) == 1


def test_sync_into_another_store_brings_parents_and_children(home, tmp_path):
    parent = train(home, name="sweep")
    train(home, name="sweep/0", parent=parent)
    other = sqlite_uri(tmp_path / "elsewhere" / "mlflow.db")
    assert sync(home, other) == "2 runs synced (34 points), 0 up to date"
    assert sync(home, other) == "0 runs synced (0 points), 2 up to date"
    found = {run.info.run_name: run for run in runs(home, uri=other)}
    parent_tag = found["sweep/0"].data.tags["mlflow.parentRunId"]
    assert parent_tag == found["sweep"].info.run_id != parent
    assert found["sweep"].data.params == PARAMS
    assert found["sweep"].info.start_time == runs(home)[-1].info.start_time


def test_sync_recreates_a_run_after_the_store_was_lost_and_the_home_moved(home, tmp_path):
    train(home)
    moved = tmp_path / "moved"
    shutil.copytree(home / "runs", moved / "runs")
    assert sync(moved) == "1 runs synced (17 points), 0 up to date"
    [run] = runs(moved)
    is_level(moved, run.info.run_id)
    assert run.info.status == "FINISHED"


def test_sync_keeps_a_running_run_running_and_skips_untracked_runs(home):
    this = record(home)
    sink = MlflowSink(home=str(home))
    run_id = sink.open(this)
    History(this.directory / "history.jsonl", []).append(0, {"train/loss": 1.0, "val/aucpr": 0.0})
    train(home, name="untracked", sink=NoSink(home=str(home)))
    assert read_status(home / "runs/rarelab/untracked")["status"] == "done"
    assert sync(home) == "1 runs synced (2 points), 0 up to date"
    [run] = runs(home)
    assert run.info.status == "RUNNING"
    is_level(home, run_id)


def test_sync_skips_a_run_that_another_process_is_pushing(home):
    train(home)
    with lock(home / "runs/rarelab/job/.sync.lock"):
        assert sync(home).endswith("0 up to date, 1 being pushed by another process")
    assert sync(home) == "0 runs synced (0 points), 1 up to date"


def test_sync_leaves_a_deleted_run_deleted(home):
    run_id = train(home)
    client(sqlite_uri(home / "mlflow.db"), home).delete_run(run_id)
    assert "1 deleted in MLflow skipped" in sync(home)
    assert not runs(home)


def test_a_run_whose_creation_was_not_confirmed_is_found_again(home):
    run_id = train(home)
    directory = home / "runs/rarelab/job"
    entry = load_entry(directory)
    entry.run_id, entry.level = None, {}
    save_entry(directory, entry)
    assert sync_run(directory).run_id == run_id
    assert len(runs(home)) == 1
    is_level(home, run_id)


def test_sync_refuses_a_folder_without_a_run_and_an_invalid_store(home, tmp_path):
    with pytest.raises(RequestError, match=r"record\.json"):
        sync_run(tmp_path)
    with pytest.raises(RequestError, match=r"tracking\.uri"):
        sync(home, "nowhere")
    train(home)
    (tmp_path / "file").touch()
    with pytest.raises(RarelabError, match=r"^1 runs could not be pushed: .*job: ") as caught:
        sync(home, sqlite_uri(tmp_path / "file" / "mlflow.db"))
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
