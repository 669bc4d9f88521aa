"""Alarms before training: columns that alone tell the label, rows that only an identifier tells
apart."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from rarelab.data.file import TableFile
from rarelab.data.tables.giveaways import hidden_repeats, separating_columns

N = 2000
DRAW = np.random.default_rng(0)
Y = np.arange(N) % 20 == 0
NOISE = DRAW.normal(size=N)
SORTED = np.argsort(np.argsort(~Y, kind="stable"))  # the row's place in a file sorted by label
CLASS = np.where(Y, 1, np.where(np.arange(N) % 2, 0, 2))
MIDDLE = np.argsort(np.argsort(CLASS, kind="stable"))


def alarms(column, y=Y, name: str = "it") -> list[str]:
    frame = pd.DataFrame({"noise": NOISE, "other": DRAW.integers(0, 3, N), name: column})
    return list(separating_columns(frame, np.arange(N), y, "1", ["old"]))


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(Y.astype(int), id="copy"),
        pytest.param(~Y, id="negated copy"),
        pytest.param(np.where(Y, "fraud", "ok"), id="copy as text"),
        pytest.param(np.where(DRAW.random(N) < 0.001, ~Y, Y).astype(float), id="noisy copy"),
        pytest.param(SORTED, id="identifier in a file sorted by label"),
        pytest.param(1_700_000_000 - 60 * SORTED, id="time stamp the other way"),
        pytest.param(MIDDLE, id="identifier, positives in the middle"),
        pytest.param(pd.to_datetime(MIDDLE, unit="s"), id="moments"),
        pytest.param(np.where(Y, NOISE, np.nan), id="filled only for positives"),
        pytest.param(np.where(Y, np.nan, NOISE), id="missing only for positives"),
        pytest.param([f"case {i}" if y else None for i, y in enumerate(Y)], id="unique texts"),
        pytest.param([f"m{i % 400}" for i in range(N)], id="pure levels"),
    ],
)
def test_a_column_that_alone_separates_is_named_with_its_aucpr(column) -> None:
    (note,) = alarms(column, name="my, column")
    assert note.startswith("'my, column' (AUCPR ") and "(chance 0.05)" in note
    assert float(re.findall(r"AUCPR ([\d.]+)", note)[0]) > 0.9
    assert note.endswith("""dataset.drop='[old,"my, column"]'""")


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(np.arange(N), id="row number"),
        pytest.param([f"id{i}" for i in range(N)], id="unique texts"),
        pytest.param(NOISE + 2 * Y, id="a good feature"),
        pytest.param([f"c{i % 300}" for i in DRAW.permutation(N)], id="many levels"),
        pytest.param(np.where(DRAW.random(N) < 0.5, np.nan, NOISE), id="gaps"),
        pytest.param(np.full(N, np.nan), id="empty"),
        pytest.param(np.zeros(N), id="constant"),
        pytest.param([None] * N, id="empty text"),
    ],
)
def test_noise_and_good_features_raise_no_alarm(column) -> None:
    assert alarms(column) == []


def test_a_discrete_column_in_a_file_sorted_by_label_is_none() -> None:
    order = np.argsort(Y, kind="stable")
    frame = pd.DataFrame({"k": DRAW.integers(0, 4, N)})
    assert not list(separating_columns(frame, np.arange(N), Y[order], "1", []))


def test_values_that_few_positives_have_alone() -> None:
    (note,) = alarms(np.where(Y & (NOISE > 0.5), NOISE, np.nan))
    count = int((Y & (NOISE > 0.5)).sum())
    assert f"filled in {count} rows, all of this class" in note
    assert alarms(np.where(np.arange(N) == 0, 1.0, np.nan)) == []  # one row: by chance


@pytest.mark.parametrize("rows", [20, 300])
def test_few_positives_rank_first_by_chance_in_some_of_many_columns(rows: int) -> None:
    y = np.arange(rows) < 2
    columns = {str(i): np.random.default_rng(i).normal(size=rows) for i in range(200)}
    frame = pd.DataFrame(columns | {"copy": y})
    assert not list(separating_columns(frame, np.arange(rows), y, "1", []))


def test_the_aucpr_is_that_of_all_training_rows() -> None:
    """More rows than the sample, with ties and missing values."""
    draw = np.random.default_rng(1)
    y = draw.random(60_000) < 0.02
    column = (y + 0.2 * draw.normal(size=len(y))).round(1)
    column[draw.random(len(y)) < 0.01] = np.nan
    train = draw.permutation(len(y))[:40_000]
    (note,) = separating_columns(pd.DataFrame({"c": column}), train, y[train], "1", [])
    expected = average_precision_score(y[train], np.nan_to_num(column[train], nan=-9))
    assert f"(AUCPR {expected:.4f})" in note and expected < 1


def test_duplicates_behind_an_identifier_are_seen() -> None:
    half = pd.DataFrame({"a": NOISE, "b": np.arange(N) % 3})
    frame = pd.concat([half, half], ignore_index=True)
    y = np.tile(Y, 2).astype(np.int64)
    rows = (np.arange(0, N), np.arange(N, N), np.arange(N, 2 * N))
    assert not list(hidden_repeats(frame, y, rows, []))  # nothing hides them
    hidden = frame.assign(id=np.arange(2 * N), uid=[f"u{i}" for i in range(2 * N)])
    (note,) = hidden_repeats(hidden, y, rows, [])
    assert note.startswith("apart from 'id', 'uid', 2,000 of 4,000 rows repeat another row")
    assert "2,000 of 2,000 test rows also appear in train or val, including 100 of 100" in note
    assert "dataset.drop='[id,uid]' dataset.deduplicate=true" in note
    within = (np.arange(0, 2 * N, 2), np.arange(0), np.arange(1, 2 * N, 2))
    pairs = half.loc[np.arange(2 * N) // 2 // 2 * 2].reset_index(drop=True).assign(id=range(2 * N))
    assert "of 2,000 test rows" in next(hidden_repeats(pairs, y, within, []))
    assert not list(hidden_repeats(half.assign(id=np.arange(N)), y[:N], (rows[0],) * 3, []))


def test_a_file_is_looked_over_before_training(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": NOISE, "copy": Y.astype(int), "y": Y.astype(int)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    dataset = TableFile(str(tmp_path / "t.csv"), "y")
    assert any(note.startswith("'copy' (AUCPR 1.0000)") for note in dataset.splits(0).notes)
    without = TableFile(str(tmp_path / "t.csv"), "y", drop=["copy"]).splits(0).notes
    assert not any("AUCPR" in note for note in without)
    common = TableFile(str(tmp_path / "t.csv"), "y", positive_label=0).splits(0).notes
    assert any("alone separates class '1'" in note for note in common)
