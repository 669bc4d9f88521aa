"""What the jobs of a sweep share has the bits of their own reading, and leaves nothing behind."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import rarelab as package
from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.data import shared
from rarelab.data.shared import FOLDER, Shelf, splits_of
from rarelab.data.splits import Splits, Table, digest, make_splits
from rarelab.sweep import shelf
from rarelab.sweep.shelf import SharedFolder
from rarelab.training.history import read_rows

ROWS = 1500


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers, levels, many levels, texts, dates, groups, weights, amounts and earlier scores."""
    draw = random.Random(3)
    words = ["lost", "card", "stolen", "pin", "shop", "late", "fee", "refund", "twice", "abroad"]
    rows = [
        {
            "payment": number,
            "date": f"2025-{1 + number * 12 // ROWS:02}-{draw.randint(1, 28):02}",
            "customer": f"c{draw.randrange(400)}",
            "amount": round(draw.lognormvariate(3, 1), 2) if draw.random() > 0.1 else "",
            "paid": round(draw.lognormvariate(3, 1), 2),
            "weight": draw.choice([0.5, 1, 2]),
            "country": draw.choice(["DE", "FR", "NL", ""]),
            "shop": f"s{draw.randrange(90)}",
            "text": " ".join(draw.choices(words, k=8)),
            "legacy": draw.random(),
            "fraud": int(draw.random() < 0.1),
        }
        for number in range(ROWS)
    ]
    path = tmp_path_factory.mktemp("table") / "cards.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


PLAIN = ["dataset.drop=[payment,date,paid,weight,legacy,text,customer]"]
SETTINGS = {
    "plain": PLAIN,
    "groups": [*PLAIN, "dataset.group=customer", "dataset.drop=[payment,date]"],
    "days": [*PLAIN, "dataset.time=date", "dataset.drop=[payment,customer]"],
    "given": [
        *["dataset.drop=[payment,date]", "dataset.keep=[customer,shop]", "dataset.amount=paid"],
        *["dataset.sample_weight=weight", "dataset.weigh_metrics=true", "dataset.scores=[legacy]"],
    ],
    "codes": [
        *["dataset.drop=[payment]", "dataset.dates=cyclic", "dataset.high_cardinality=target"],
        *["dataset.max_categories=8", "dataset.text=tfidf", "dataset.text_columns=[text]"],
    ],
    "hashed": [*PLAIN, "dataset.high_cardinality=hash", "dataset.max_categories=8"],
}


def overrides(table: Path, settings: list[str]) -> list[str]:
    return ["dataset=file", f"dataset.path={table}", "dataset.target=fraud", *settings]


def asked(table: Path, settings: list[str]) -> tuple[Any, dict[str, Any]]:
    from omegaconf import OmegaConf

    cfg, _ = compose_train(overrides(table, settings))
    leaf: Any = OmegaConf.to_container(cfg.dataset, resolve=True)
    return build.dataset(cfg), leaf


def assert_same(one: Splits, other: Splits) -> None:
    for (name, a), (_, b) in zip(one.tables(), other.tables(), strict=True):
        for part in ("x", "y", "sample_weight"):
            left, right = getattr(a, part), getattr(b, part)
            assert (left is None) == (right is None), (name, part)
            if left is not None:
                assert left.dtype == right.dtype and left.stride() == right.stride()
                assert left.numpy().tobytes() == right.numpy().tobytes(), (name, part)
        assert a.days == b.days and (a.origin is None) == (b.origin is None)
        assert list(a.origin or {}) == list(b.origin or {})
        for column, values in (a.origin or {}).items():
            mine = (b.origin or {})[column]
            assert type(values) is type(mine) and values.dtype == mine.dtype, column
            pd.testing.assert_series_equal(pd.Series(values), pd.Series(mine))
    for part in ("classes", "features", "digest", "name", "notes", "prevalence"):
        assert getattr(one, part) == getattr(other, part), part


@pytest.mark.parametrize("kind", SETTINGS)
def test_mapped_splits_have_the_bits_of_a_fresh_reading(
    kind: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, leaf = asked(table, SETTINGS[kind])
    fresh = data.splits(0)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert_same(splits_of(data, leaf, 0), fresh)
    monkeypatch.setattr(type(data), "splits", None)  # from now on nobody can read
    mapped = splits_of(data, leaf, 5)  # the seed of a draw is none of a file's
    assert_same(mapped, fresh)
    assert digest(mapped.train, mapped.val, mapped.test) == mapped.digest
    assert mapped.train.x.data_ptr() % 64 == 0
    rows = pd.read_csv(table).head(50)
    features = [s.preprocessor.transform(rows.copy()) for s in (fresh, mapped)]
    assert np.asarray(features[0]).tobytes() == np.asarray(features[1]).tobytes()


def test_a_folder_that_others_can_write_to_is_not_read(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, leaf = asked(table, PLAIN)
    shared, link = tmp_path / "shared", tmp_path / "link"
    shared.mkdir()
    shared.chmod(0o770)
    link.symlink_to(tmp_path)
    for folder in (shared, link, tmp_path / "gone"):
        monkeypatch.setenv(FOLDER, str(folder))
        assert_same(splits_of(data, leaf, 0), data.splits(0))
    assert not [*shared.iterdir()]


def test_what_one_job_writes_to_its_rows_no_other_sees(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, leaf = asked(table, PLAIN)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    splits_of(data, leaf, 0)
    spoiled, again = splits_of(data, leaf, 0), splits_of(data, leaf, 0)
    spoiled.train.x.zero_()
    assert_same(again, data.splits(0))
    assert_same(splits_of(data, leaf, 0), again)


def test_another_setting_file_or_split_is_another_entry(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    copy = tmp_path / "copy.csv"
    copy.write_text(table.read_text()[:-20].rsplit("\n", 1)[0], encoding="utf-8")
    found = [
        splits_of(*asked(path, settings), 0)
        for path, settings in (
            (table, PLAIN),
            (table, [*PLAIN, "dataset.split_seed=1"]),
            (table, [*PLAIN, "dataset.numeric=standard"]),
            (copy, PLAIN),
        )
    ]
    assert len({splits.digest for splits in found}) == 4
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 4


def test_generated_data_is_drawn_by_each_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    cfg, _ = compose_train(["dataset.n_samples=2000", "dataset.pos_rate=0.1"])
    data = build.dataset(cfg)
    one, other = splits_of(data, {}, 1), splits_of(data, {}, 2)
    assert one.digest != other.digest
    assert not list(tmp_path.iterdir())


def made(seed: int, rows: int = 4000) -> Splits:
    draw = torch.Generator().manual_seed(seed)
    tables = [
        Table(torch.randn(rows, 3, generator=draw), (torch.arange(rows) % 9 == 0).long())
        for _ in range(3)
    ]
    return make_splits(*tables, classes="ab", features="xyz", name=str(seed))


def never() -> Splits:
    raise AssertionError("it was there")


def test_those_not_used_for_longest_make_room(tmp_path: Path) -> None:
    size = 3 * 4000 * (3 * 4 + 8)
    kept = Shelf(tmp_path, limit=int(2.5 * size))
    for number, key in enumerate("ab"):
        kept.get(key, lambda number=number: made(number))
        os.utime(tmp_path / key, (number, number))
    kept.get("a", never)  # used: now b is the oldest
    kept.get("c", lambda: made(2))
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["a", "c"]
    assert kept.get("b", lambda: made(1)).digest == made(1).digest


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    small = Shelf(tmp_path, limit=10_000)
    for _ in range(2):
        assert_same(small.get("a", lambda: made(0)), made(0))
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_columns_first_and_other_layouts_survive(tmp_path: Path) -> None:
    columns = torch.randn(3, 4000).t()
    every_other = torch.randn(4000, 6)[:, ::2]
    labels = (torch.arange(4000) % 9 == 0).long()
    tables = [Table(x, labels) for x in (columns, every_other, every_other)]
    fresh = make_splits(*tables, classes="ab", features="xyz", name="layouts")
    kept = Shelf(tmp_path)
    kept.get("a", lambda: fresh)
    assert_same(kept.get("a", never), fresh)


def test_a_folder_that_is_gone_full_or_damaged_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same(Shelf(tmp_path / "gone").get("a", lambda: made(0)), made(0))
    kept = Shelf(tmp_path)
    kept.get("a", lambda: made(0))
    (tmp_path / "a" / "splits.pickle").write_bytes(b"half a")
    assert_same(kept.get("a", lambda: made(0)), made(0))
    monkeypatch.setattr(shared.np, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "")))
    assert_same(kept.get("b", lambda: made(0)), made(0))
    assert not list(tmp_path.glob("b*/")) and not list(tmp_path.glob("*.part"))


def test_of_several_that_need_it_at_once_one_reads(tmp_path: Path) -> None:
    readings = []

    def read() -> Splits:
        readings.append(1)
        time.sleep(0.5)
        return made(0)

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(lambda: Shelf(tmp_path).get("a", read)) for _ in range(4)]
    assert [done.result().digest for done in asked] == [made(0).digest] * 4
    assert len(readings) == 1


def test_a_reading_that_fails_frees_the_others(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        Shelf(tmp_path).get("a", lambda: 1 / 0)  # type: ignore[arg-type]
    assert_same(Shelf(tmp_path).get("a", lambda: made(0)), made(0))


HOLDING = """
import sys, time
from rarelab.sweep.shelf import SharedFolder
from rarelab.training.history import read_rows
folder = SharedFolder()
with folder.named():
    import os
    print(os.environ["RARELAB_SHARED_SPLITS"], flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(shelf.tempfile, "tempdir", None)
    return tmp_path


def test_a_killed_sweeps_folder_is_removed_by_the_next_and_a_living_ones_is_not(
    temporary: Path,
) -> None:
    command = [sys.executable, "-c", HOLDING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        ours = SharedFolder()
        assert theirs.is_dir() and len(list(temporary.iterdir())) == 2
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert theirs.is_dir()  # nobody could remove it
    SharedFolder().remove()
    assert not theirs.exists()
    ours.remove()
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("call", ["open", "flock"])
def test_without_a_lock_every_job_reads_for_itself(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    module = shelf.os if call == "open" else shelf.fcntl
    works = getattr(module, call)

    def fails(what: Any, *rest: Any, **more: Any) -> Any:
        if call == "flock" or Path(what).name == "new":
            raise OSError(errno.ENOSPC, "no space left")
        return works(what, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(module, call, fails)
        folder = SharedFolder()
    with folder.named():
        assert FOLDER not in os.environ
    folder.remove()
    assert not list(temporary.iterdir())


def test_the_folder_is_named_only_to_jobs(temporary: Path) -> None:
    folder = SharedFolder()
    with folder.named():
        assert Path(os.environ[FOLDER]).parent == temporary
        assert Path(os.environ[FOLDER]).stat().st_mode & 0o777 == 0o700
    assert FOLDER not in os.environ
    folder.remove()
    folder.remove()  # a second time does nothing
    with folder.named():
        assert FOLDER not in os.environ


def test_a_run_on_shared_rows_records_what_one_of_its_own_does(
    table: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [*overrides(table, SETTINGS["given"]), "model=mlp", "loss=bce", "trainer.max_epochs=2"]
    lines += ["tracking=none", "schedule.warmup_epochs=0"]
    alone = package.train(lines)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    runs = [alone, package.train(lines), package.train(lines)]
    assert alone.metrics == runs[1].metrics == runs[2].metrics
    for name in ("predictions.parquet", "config.yaml", "data.json", "code.json", "curves.json"):
        assert len({(run.directory / name).read_bytes() for run in runs}) == 1, name
    for run in runs[1:]:
        kept = {path.name: np.load(path) for path in (run.directory / "model").glob("*.npz")}
        for name, arrays in kept.items():
            mine = np.load(alone.directory / "model" / name)
            assert {k: v.tobytes() for k, v in arrays.items()} == {
                k: v.tobytes() for k, v in mine.items()
            }
        for path in run.directory.rglob("*"):
            assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_the_jobs_of_a_sweep_record_what_a_run_alone_does_and_leave_nothing(
    rarelab: Callable, table: Path, temporary: Path, home: Path
) -> None:
    lines = [*overrides(table, PLAIN), "model=mlp", "loss=bce", "trainer.max_epochs=2"]
    lines += ["schedule.warmup_epochs=0"]
    done = rarelab("train", "-m", *lines, "seed=0,1,2", "sweep.n_jobs=2")
    assert done.returncode == 0, done.stderr
    assert not list(temporary.glob("rarelab-splits-*"))
    (history,) = home.glob("runs/rarelab/*-s1-*/history.jsonl")
    alone = package.train([*lines, "seed=1", "tracking=none"])
    metrics: dict[str, float] = {}
    for row in read_rows(history):
        metrics |= row["metrics"]
    assert {key: metrics[key] for key in alone.metrics} == alone.metrics
