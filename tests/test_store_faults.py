"""Whole runs while the store's disk or server really fails: every fault at every moment."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import rarelab as package
from faults import Disk, Server
from paused import command
from rarelab.tracking.writer import PERCENT_OF_ROWS
from rarelab.training.history import read_rows

pytestmark = pytest.mark.slow

SMALL = [
    "dataset.n_samples=2000",
    "dataset.pos_rate=0.1",
    "trainer.max_epochs=6",
    "schedule.warmup_epochs=1",
    "schedule.blend_epochs=1",
]


def middle(step: int, metrics: dict[str, float]) -> bool:
    return step == 3 and "train/loss" in metrics


def end(step: int, metrics: dict[str, float]) -> bool:
    return "test/aucpr" in metrics


MOMENTS = {"start": None, "middle": middle, "end": end}
FAULTS: dict[str, tuple[type, Callable]] = {
    "read-only": (Disk, Disk.turn_read_only),
    "full": (Disk, Disk.fill),
    "gone": (Server, Server.kill),
    "hanging": (Server, Server.freeze),
}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    try:
        disk = Disk(tmp_path_factory.mktemp("disk"))
    except OSError as error:
        pytest.skip(f"no disk can be made to fail here: {error}")
    yield disk
    disk.remove()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.remove()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, dict[str, float]]]:
    """The history of the same run without a store."""
    home = tmp_path_factory.mktemp("undisturbed")
    return history(package.train([*SMALL, f"paths.home={home}", "tracking=none"]).directory)


def history(directory: Path) -> list[tuple[int, dict[str, float]]]:
    return [(row["step"], row["metrics"]) for row in read_rows(directory / "history.jsonl")]


def stored(store: Path, experiment: str) -> dict[str, list[tuple]]:
    """What the store's tables hold for an experiment: its runs, tags and metric points."""
    where = "FROM {} JOIN runs USING (run_uuid) JOIN experiments USING (experiment_id) WHERE "
    questions = {
        "runs": "SELECT runs.status FROM runs JOIN experiments USING (experiment_id) WHERE ",
        "tags": "SELECT tags.key, tags.value " + where.format("tags"),
        "points": "SELECT metrics.key, step, metrics.value, timestamp " + where.format("metrics"),
    }
    with closing(sqlite3.connect(store)) as db:
        return {
            name: db.execute(f"{question} experiments.name = ?", [experiment]).fetchall()
            for name, question in questions.items()
        }


def assert_level(store: Path, experiment: str, directory: Path, parts: int = 4) -> None:
    """The store has each of the folder's points once, by the first ``parts`` of their fields."""
    found = stored(store, experiment)
    assert found["runs"] == [("FINISHED",)]
    assert ("rarelab.status", "done") in found["tags"]
    rows = read_rows(directory / "history.jsonl")
    points = [
        (key, row["step"], value, row["time"])[:parts]
        for row in rows
        for key, value in row["metrics"].items()
    ]
    curves = [point for point in found["points"] if point[0].startswith("curve/")]
    assert sorted(points) == sorted(p[:parts] for p in set(found["points"]) - set(curves))
    assert len(found["points"]) == len({point[:2] for point in found["points"]})
    exact = json.loads((directory / "curves.json").read_text(encoding="utf-8"))
    names = ("recall_at_q", "precision_at_recall")
    expected = {f"curve/{name}": len(exact[name]["steps"]) for name in names}
    expected[PERCENT_OF_ROWS] = expected["curve/recall_at_q"]
    assert Counter(key for key, *_ in curves) == expected


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_succeeds_whatever_its_store_does(
    fault: str,
    moment: str,
    request: pytest.FixtureRequest,
    home: Path,
    tmp_path: Path,
    undisturbed: list,
) -> None:
    kind, harm = FAULTS[fault]
    place = request.getfixturevalue(kind.__name__.lower())
    experiment, log = f"{fault}-{moment}", tmp_path / "log"
    where = [f"paths.home={home}", f"tracking.uri={place.uri}", f"tracking.experiment={experiment}"]

    def strike() -> None:
        assert moment == "start" or stored(place.store, experiment)["points"]
        harm(place)

    try:
        code, said = command(["train", *SMALL, *where], log, MOMENTS[moment], strike)
    finally:
        place.mend()
    assert code == 0, said
    assert said.count("is not recording this run") == 1, said
    rest = "\n".join(line for line in said.splitlines() if "trained too short" not in line)
    assert not [word for word in ("Traceback", "warning", "note:") if word in rest], said
    (directory,) = (home / "runs" / experiment).iterdir()
    assert history(directory) == undisturbed
    for expected in ("1 runs synced (", "0 runs synced (0 points), 1 up to date\n"):
        code, said = command(["sync", "--home", str(home)], log)
        assert code == 0 and said.startswith(expected), said
        assert_level(place.store, experiment, directory)


@pytest.mark.parametrize("moment", ["middle", "end"])
def test_a_run_on_a_full_disk_ends_with_one_line_and_resumes_once_there_is_room(
    moment: str, disk: Disk, tmp_path: Path, undisturbed: list
) -> None:
    home, log = disk.root / moment, tmp_path / "log"
    request = ["train", *SMALL, f"paths.home={home}"]
    try:
        code, said = command(request, log, MOMENTS[moment], disk.fill)
    finally:
        disk.mend()
    assert code == 1 and "Traceback" not in said, said
    assert said.splitlines()[-1].startswith("error: No space left on device"), said
    code, said = command(request, log)
    assert code == 0 and "resuming" in said, said
    assert "is not recording" not in said, said
    (directory,) = (home / "runs" / "rarelab").iterdir()
    assert history(directory) == undisturbed
    # A row pushed again keeps its original time in the store.
    assert_level(home / "mlflow.db", "rarelab", directory, parts=3)
