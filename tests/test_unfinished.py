"""A run that was cut short is found, marked as interrupted, and resumed in its own folder."""

import errno
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

import rarelab
from rarelab.runs.claim import claim
from rarelab.sweep.parent import under_way
from rarelab.tracking import close_dead_runs, owner, read_status, store
from rarelab.tracking.dead import claim_lock
from rarelab.tracking.entry import load_entry, save_entry
from rarelab.training.history import History, read_rows
from rarelab.training.keeper import LAST
from rarelab.training.loop import Diverged, Trainer

SMALL = [
    "dataset.n_samples=1500",
    "dataset.pos_rate=0.05",
    "trainer.max_epochs=4",
    "trainer.batch_size=128",
    "trainer.checkpoint_every=3 steps",
    "schedule.warmup_epochs=1",
    "schedule.blend_epochs=1",
]
UNTRACKED = [*SMALL, "tracking=none"]
BENCH = Path(__file__).parent.parent / "experiments" / "bench_resume"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take half of a small run's time, and no test here needs them."""
    monkeypatch.setattr("rarelab.runs.evaluation.run_figures", lambda *arguments: None)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch):
    """A function that starts a run, interrupts it at its ``at``-th step and returns its folder."""

    def start(overrides: list[str], at: int = 20) -> Path:
        steps = [0]
        update = Trainer._update

        def stop(self, *arguments) -> None:
            steps[0] += 1
            if steps[0] == at:
                raise KeyboardInterrupt
            update(self, *arguments)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Trainer, "_update", stop)
            rarelab.train(overrides)
        return newest(Path(os.environ["RARELAB_HOME"]))

    return start


def newest(home: Path) -> Path:
    return max(folders(home), key=lambda path: path.stat().st_ctime_ns)


def folders(home: Path) -> list[Path]:
    return [path for path in (home / "runs" / "rarelab").iterdir() if path.is_dir()]


def rows(directory: Path) -> list[tuple[int, dict[str, float]]]:
    path = directory / "history.jsonl"
    return [(row["step"], row["metrics"]) for row in read_rows(path)] if path.exists() else []


def pretend_killed(directory: Path) -> None:
    """Leave what kill -9 leaves: a dead owner and no status."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    fact = {"place": owner._place(), "pid": gone.pid, "started": 1}
    (directory / owner.OWNER).write_text(json.dumps(fact))
    (directory / "status.json").unlink()


def test_an_interrupted_run_resumes_in_its_folder_and_its_mlflow_run(interrupted, home) -> None:
    whole = rarelab.train([*SMALL, "tracking.experiment=whole"])
    directory = interrupted(SMALL)
    assert read_status(directory)["status"] == "interrupted"
    assert (directory / LAST).exists()
    done = rarelab.train(SMALL)
    assert done.directory == directory
    assert rows(directory) == rows(whole.directory)
    assert done.metrics == whole.metrics
    assert "resumed after epoch 2, step 2" in (directory / "train.log").read_text()
    assert not (directory / LAST).exists()
    tracker = mlflow.MlflowClient(f"sqlite:///{home}/mlflow.db")
    run = tracker.get_run(done.run_id)
    assert (run.info.status, run.data.tags["rarelab.status"]) == ("FINISHED", "done")
    for key, value in run.data.metrics.items():
        steps = [point.step for point in tracker.get_metric_history(done.run_id, key)]
        assert len(steps) == len(set(steps)), key
        assert key.startswith("curve/") or value == whole.metrics[key]


def test_a_killed_run_is_closed_by_the_next_start(interrupted, home) -> None:
    directory = interrupted(SMALL)
    run_id = json.loads((directory / "record.json").read_text())["run_id"]
    tracker = mlflow.MlflowClient(f"sqlite:///{home}/mlflow.db")
    tracker.update_run(run_id, status="RUNNING")
    tracker.set_tag(run_id, "rarelab.status", "running")
    pretend_killed(directory)
    rarelab.train([*UNTRACKED, "seed=1"])
    assert read_status(directory)["status"] == "interrupted"
    assert not (directory / owner.OWNER).exists()
    run = tracker.get_run(run_id)
    assert (run.info.status, run.data.tags["rarelab.status"]) == ("KILLED", "interrupted")
    # The end time is its last sign of life, not the time of discovery.
    signs = [directory / "train.log", directory / "history.jsonl"]
    assert run.info.end_time >= max(path.stat().st_mtime for path in signs) * 1000 - 1
    assert rarelab.train(SMALL).directory == directory


def test_a_killed_run_is_resumed_by_the_same_job(interrupted, home) -> None:
    directory = interrupted(UNTRACKED)
    pretend_killed(directory)
    done = rarelab.train(UNTRACKED)
    assert done.directory == directory
    assert rows(directory) == rows(rarelab.train([*UNTRACKED, "trainer.resume=never"]).directory)


@pytest.mark.parametrize("moment", ["before anything was written", "before the first step"])
def test_a_run_killed_at_its_start_is_resumed(interrupted, home, moment: str) -> None:
    directory = interrupted(UNTRACKED, at=1)
    pretend_killed(directory)
    if moment == "before anything was written":
        (directory / "record.json").unlink()
        (directory / "config.yaml").unlink()
    done = rarelab.train(UNTRACKED)
    assert done.directory == directory
    assert len(rows(directory)) == 6
    assert (directory / "config.yaml").exists()


@pytest.mark.parametrize("why", ["never", "alive", "other machine", "other job", "failed"])
def test_a_run_that_may_not_be_resumed_is_left_alone(interrupted, home, why: str) -> None:
    directory = interrupted(UNTRACKED)
    before = rows(directory)
    overrides = list(UNTRACKED)
    if why == "never":
        overrides.append("trainer.resume=never")
    elif why == "alive":
        owner.take(directory)
    elif why == "other machine":
        facts = json.loads((directory / "environment.json").read_text())
        (directory / "environment.json").write_text(json.dumps(facts | {"cpu_capability": "X"}))
    elif why == "failed":
        (directory / "status.json").write_text('{"status": "error", "ended": 1}')
    else:
        entry = json.loads((directory / "record.json").read_text())
        entry["tags"]["rarelab.code"] = "0"
        (directory / "record.json").write_text(json.dumps(entry))
    assert rarelab.train(overrides).directory != directory
    assert rows(directory) == before


def test_a_finished_run_is_trained_anew(home) -> None:
    first, second = rarelab.train(UNTRACKED), rarelab.train(UNTRACKED)
    assert first.directory != second.directory
    assert rows(first.directory) == rows(second.directory)


def _claim(folder: str, barrier, answers) -> None:
    barrier.wait()
    answers.put(claim(Path(folder), "job", goes_on=lambda directory: True))
    barrier.wait()  # stay alive while the others look


def test_of_several_simultaneous_starts_only_one_resumes(tmp_path) -> None:
    (tmp_path / "job-0").mkdir()
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.Queue()
    starts = [
        context.Process(target=_claim, args=(str(tmp_path), barrier, answers)) for _ in range(4)
    ]
    for start in starts:
        start.start()
    found = [answers.get(timeout=60) for _ in starts]
    for start in starts:
        start.join()
    assert sorted(directory.name for directory, _ in found) == ["job-0", "job-1", "job-2", "job-3"]
    assert [directory.name for directory, went_on in found if went_on] == ["job-0"]


def test_an_owner_is_alive_only_while_its_own_process_is(tmp_path) -> None:
    assert not owner.alive(tmp_path)
    owner.take(tmp_path)
    assert owner.alive(tmp_path)
    path = tmp_path / owner.OWNER
    mine = json.loads(path.read_text())
    path.write_text(json.dumps(mine | {"started": mine["started"] + 1}))  # the pid was reused
    assert not owner.alive(tmp_path)
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    path.write_text(json.dumps(mine | {"pid": zombie.pid}))
    assert not owner.alive(tmp_path)
    zombie.wait()
    path.write_text("{")
    assert not owner.alive(tmp_path)


def test_a_killed_owner_is_waited_for_until_it_is_gone(tmp_path) -> None:
    with subprocess.Popen(["sleep", "60"]) as dying:
        fact = {"place": owner._place(), "pid": dying.pid, "started": owner._start_of(dying.pid)}
        (tmp_path / owner.OWNER).write_text(json.dumps(fact))
        owner.wait_for_end(tmp_path, seconds=0)
        assert owner.alive(tmp_path)
        threading.Timer(0.3, dying.kill).start()
        owner.wait_for_end(tmp_path, seconds=30)
        assert not owner.alive(tmp_path)


def test_an_owner_on_another_host_is_alive_while_its_heartbeat_continues(
    tmp_path, monkeypatch
) -> None:
    owner.take(tmp_path)
    path = tmp_path / owner.OWNER
    path.write_text(path.read_text().replace(owner._place(), "another host"))
    assert owner.alive(tmp_path)
    long_ago = time.time() - owner.STALE - 5
    os.utime(path, (long_ago, long_ago))
    assert not owner.alive(tmp_path)
    monkeypatch.setattr(owner, "BEAT", 0.01)
    with owner.beating(tmp_path):
        deadline = time.monotonic() + 10
        while not owner.alive(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert owner.alive(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {owner.OWNER}


def test_a_renamed_host_still_recognises_its_processes(tmp_path, monkeypatch) -> None:
    owner.take(tmp_path)
    place = f"renamed {owner._place().partition(' ')[2]}"
    monkeypatch.setattr(owner, "_place", lambda: place)
    assert owner.alive(tmp_path)
    path = tmp_path / owner.OWNER
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started": 1}))
    assert not owner.alive(tmp_path)


@pytest.mark.parametrize("lives", [True, False], ids=["lives", "is gone"])
def test_a_folder_of_another_host_is_resumed_once_its_heartbeat_stops(
    tmp_path, monkeypatch, lives: bool
) -> None:
    monkeypatch.setattr(owner, "STALE", 0.5)
    monkeypatch.setattr(owner, "BEAT", 0.05)
    first, _ = claim(tmp_path, "job")
    path = first / owner.OWNER
    path.write_text(path.read_text().replace(owner._place(), "elsewhere"))
    with owner.beating(first) if lives else nullcontext():
        found, went_on = claim(tmp_path, "job", goes_on=lambda directory: True)
    assert (found == first, went_on) == (not lives, not lives)


def test_no_lock_is_held_while_a_dead_run_is_closed_in_mlflow(
    interrupted, home, monkeypatch
) -> None:
    directory = interrupted(UNTRACKED)
    pretend_killed(directory)
    entry = load_entry(directory)
    save_entry(directory, replace(entry, tracked=True))
    told = []

    def slow(of: Path, **options) -> None:
        told.append(of)
        with store.lock(claim_lock(of.parent), patience=0):
            pass  # it is free

    with store.lock(claim_lock(directory.parent)):
        monkeypatch.setattr("rarelab.tracking.dead._PATIENCE", 0)
        assert close_dead_runs(home) == []  # another process holds that experiment
    monkeypatch.setattr("rarelab.tracking.dead.sync_run", slow)
    assert close_dead_runs(home) == told == [directory]


@pytest.mark.parametrize("part", ["write_environment", "History", "close_dead_runs"])
def test_a_record_that_cannot_be_opened_leaves_nothing_open(home, monkeypatch, part: str) -> None:
    def full(*arguments, **options) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    handlers = list(logging.getLogger("rarelab").handlers)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(f"rarelab.runs.folder.{part}", full)
        rarelab.train(UNTRACKED)
    assert logging.getLogger("rarelab").handlers == handlers
    assert "rarelab-owner" not in {thread.name for thread in threading.enumerate()}
    [directory] = folders(home)
    assert not owner.alive(directory)
    again = rarelab.train(UNTRACKED).directory
    # Only a run that had been opened counts as failed.
    assert (again == directory) == (read_status(directory)["status"] == "done")
    assert part != "close_dead_runs" or read_status(directory)["status"] == "error"


def test_a_record_whose_end_cannot_be_written_is_closed_by_the_next_start(tmp_path) -> None:
    owner.take(tmp_path)
    owner.abandon(tmp_path)
    assert (tmp_path / owner.OWNER).exists()
    assert not owner.alive(tmp_path)


@pytest.mark.parametrize("end", [b"\xff\xfe\x9c\x00", b"\x00" * 40, b'{"step": 1, "ti'], ids=repr)
def test_a_history_damaged_by_a_power_loss_is_read_up_to_the_damage(tmp_path, end: bytes) -> None:
    path = tmp_path / "history.jsonl"
    History(path).append(1, {"a": 0.5})
    path.write_bytes(path.read_bytes() + end)
    assert [row["metrics"] for row in read_rows(path)] == [{"a": 0.5}]
    history = History(path)
    history.cut(len(history))
    history.append(2, {"a": 0.25})
    assert [row["step"] for row in read_rows(path)] == [1, 2]


def test_the_same_sweep_in_another_process_is_detected(tmp_path) -> None:
    assert under_way(tmp_path, "0a1b") is None
    directory, _ = claim(tmp_path, "sweep-0a1b")
    assert under_way(tmp_path, "0a1b") == directory
    owner.release(directory)
    assert under_way(tmp_path, "0a1b") is None


def test_a_run_of_an_experiment_with_a_slash_is_closed(home) -> None:
    directory, _ = claim(home / "runs" / "team" / "fraud", "job")
    (directory / owner.OWNER).write_text("{}")
    assert close_dead_runs(home) == [directory]


def test_a_folder_without_a_record_is_closed_too(home) -> None:
    directory, _ = claim(home / "runs" / "rarelab", "job")
    (directory / owner.OWNER).write_text("{}")
    assert close_dead_runs(home) == [directory]
    assert close_dead_runs(home) == []
    assert read_status(directory) is None


class Breaking:
    """Wraps ``Trainer._forward`` so that the loss is NaN in its ``at``-th call."""

    def __init__(self, at: int) -> None:
        self._at, self._calls = at, 0

    def __call__(self, usual):
        def forward(*arguments):
            logits, loss = usual(*arguments)
            self._calls += 1
            return logits, loss * (float("nan") if self._calls == self._at else 1.0)

        return forward


@pytest.mark.parametrize(("at", "epoch"), [(30, 2), (20, 2)], ids=["after main", "in the blend"])
def test_a_diverged_run_keeps_and_scores_what_was_finite(monkeypatch, home, at, epoch) -> None:
    usual = Trainer._forward
    breaking = Breaking(at)
    monkeypatch.setattr(Trainer, "_forward", lambda *a: breaking(usual)(*a))
    with pytest.raises(Diverged, match="nan at epoch"):
        rarelab.train(UNTRACKED)
    directory = newest(home)
    assert read_status(directory)["status"] == "diverged"
    assert (directory / "checkpoint.pt").exists()
    metrics = {key: value for _, row in rows(directory) for key, value in row.items()}
    assert metrics["best/epoch"] == epoch
    assert 0 < metrics["test/aucpr"] <= 1
    monkeypatch.undo()
    assert rarelab.train(UNTRACKED).directory != directory


def test_a_run_that_diverges_at_once_has_nothing_to_score(monkeypatch, home) -> None:
    usual = Trainer._forward
    breaking = Breaking(1)
    monkeypatch.setattr(Trainer, "_forward", lambda *a: breaking(usual)(*a))
    with pytest.raises(Diverged):
        rarelab.train(UNTRACKED)
    assert rows(newest(home)) == []
    assert not (newest(home) / "checkpoint.pt").exists()


@pytest.mark.slow
def test_runs_killed_at_any_moment_end_like_an_undisturbed_one() -> None:
    command = [sys.executable, str(BENCH / "run.py"), "--dataset", "toy", "--kills", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 of 8 killed runs equal the uninterrupted one" in done.stdout
