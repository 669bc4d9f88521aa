"""Cached splits: they are read back exactly as written, and damaged files are never used."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rarelab.data.archives import prepared, real
from rarelab.data.archives.real import RealData
from rarelab.data.source import Archive, Member, Roles, Source
from rarelab.data.splits import Splits
from rarelab.data.tables.recipe import Recipe


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    amount = rng.normal(size=600)
    amount[::7] = np.nan
    shop = rng.choice(["a", "b", "é", "rare"], p=[0.5, 0.3, 0.19, 0.01], size=600)
    weight = rng.uniform(0.5, 2.0, size=600)
    return pd.DataFrame({"amount": amount, "shop": shop, "w": weight, "y": np.arange(600) % 9 == 0})


SOURCE = Source(
    name="invented",
    title="rows that no archive holds",
    roles=Roles(target="y", sample_weight="w"),
    read=lambda *_: frame(),
    rows=600,
    features=2,
    positives=67,
    citation="none",
    archive=Archive("invented==1", "0" * 64, megabytes=1),
    members=(Member("invented.csv", "1" * 64),),
)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RealData:
    """A real data set whose raw frame can be loaded only once."""
    monkeypatch.setenv("RARELAB_DATA", str(tmp_path))
    (tmp_path / "invented").mkdir()
    frames = iter([frame()])
    monkeypatch.setattr(real, "load", lambda *_: next(frames))
    return RealData(SOURCE, Recipe(split="stratified"))


def kept(dataset: RealData, home: Path) -> Path:
    return prepared.path_of(dataset.source, dataset.recipe, home)


def same(a: Splits, b: Splits) -> bool:
    facts = ("digest", "classes", "features", "name", "notes", "prevalence")
    new = frame().head(50)
    return all(getattr(a, fact) == getattr(b, fact) for fact in facts) and np.array_equal(
        a.preprocessor.transform(new), b.preprocessor.transform(new)
    )


def test_the_second_reading_gives_the_same_splits(dataset: RealData, tmp_path: Path) -> None:
    first, second = dataset.splits(0), dataset.splits(0)
    assert same(first, second) and first.notes and first.train.sample_weight is not None
    assert [path.name for path in (tmp_path / "invented").iterdir()] == [
        kept(dataset, tmp_path).name
    ]


def test_another_recipe_or_source_is_another_file(dataset: RealData, tmp_path: Path) -> None:
    others = [replace(dataset, recipe=replace(dataset.recipe, split_seed=1))]
    others += [replace(dataset, recipe=replace(dataset.recipe, numeric="none"))]
    others += [replace(dataset, source=replace(SOURCE, members=(Member("x.csv", "2" * 64),)))]
    assert len({kept(each, tmp_path) for each in [dataset, *others]}) == 4


@pytest.mark.parametrize("damage", ["cut", "bits", "empty"])
def test_a_damaged_file_is_never_used(dataset: RealData, tmp_path: Path, damage: str) -> None:
    dataset.splits(0)
    path = kept(dataset, tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "bits":
        content[content.index(b"train.x.npy") + 300] ^= 1
    path.write_bytes({"cut": content[:2000], "bits": content, "empty": b""}[damage])
    assert prepared.read(path) is None
    assert not path.exists()


def test_large_splits_are_not_cached(
    dataset: RealData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "LIMIT", 1000)
    assert len(dataset.splits(0).train) == 360
    assert not list((tmp_path / "invented").iterdir())
