"""``rarelab data describe``: what it says of a column is what training makes of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rarelab.cli import main
from rarelab.data.describe import describe
from rarelab.data.file import TableFile

ROWS = 600


@pytest.fixture
def path(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    fraud = draw.random(ROWS) < 0.1
    frame = pd.DataFrame(
        {
            "id": [f"c{i}" for i in range(ROWS)],
            "shop": draw.choice(["a", "b", "c"], ROWS, p=[0.5, 0.3, 0.2]),
            "town": [f"t{i // 2 if i < 60 else 99}" for i in range(ROWS)],
            "amount": np.where(draw.random(ROWS) < 0.25, np.nan, draw.normal(size=ROWS)),
            "age": draw.integers(18, 90, ROWS),
            "known_after": 1.0 * fraud,
            "label": np.where(fraud, "fraud", "ok"),
        }
    )
    frame.to_csv(tmp_path / "cards.csv", index=False)
    return tmp_path / "cards.csv"


def table(path: Path, **settings) -> TableFile:
    return TableFile(str(path), **{"target": "label", "positive_label": "fraud", **settings})


def row(text: str, column: str) -> str:
    (found,) = (line for line in text.splitlines() if line.startswith(f"  {column} "))
    return " ".join(found.split())


def test_every_column_is_told_as_training_takes_it(path) -> None:
    made = table(path, drop=["id"])
    text, refused = describe(made)
    splits = made.splits(0)
    assert refused is None
    frame = pd.read_csv(path)
    assert row(text, "id").startswith("id left out (drop) 0.0% 600 different ones, such as c")
    assert row(text, "label").startswith("label the target 0.0% ok 9")
    assert row(text, "age") == (
        f"age a number 0.0% {frame.age.min()} to {frame.age.max()}, median {frame.age.median():g}"
    )
    missing = f"{frame.amount.isna().mean():.1%}"
    assert row(text, "amount").startswith(f"amount a number and a flag for missing {missing} ")
    assert row(text, "shop").startswith("shop 3 one-hot 0.0% a ")
    town = [name for name in splits.features if name.startswith("town=")]
    levels = len(set(frame.town.iloc[splits.train.origin["row"]]))
    shared = f"{levels - len(town) + 1} of {levels} levels share one"
    assert row(text, "town").startswith(f"town {len(town)} one-hot: {shared} 0.0% t99 90.0%")
    numbers = {"amount", "missing(amount)", "age", "known_after"}
    assert numbers | {*town} <= {*splits.features}
    last = text.splitlines()[-1]
    assert last.startswith(f"{len(splits.features)} features; train {len(splits.train)} rows (")
    (alarm,) = (line for line in text.splitlines() if "alone separates" in line)
    assert "'known_after' (AUCPR 1.0000)" in alarm


def test_a_table_that_training_refuses_is_still_described(path, capsys) -> None:
    assert main(["data", "describe", str(path), "target=label"]) == 2
    out, error = capsys.readouterr()
    assert row(out, "shop").startswith("shop levels 0.0% a ")
    assert "say which is positive, for example dataset.positive_label=fraud" in error


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["target=lable"], "dataset.target=lable is not a column: did you mean 'label'?"),
        (
            ["targett=label"],
            "dataset.targett: there is no such key; did you mean 'dataset.target'?",
        ),
    ],
)
def test_a_mistake_is_one_line(path, capsys, settings, expected) -> None:
    assert main(["data", "describe", str(path), *settings]) == 2
    assert expected in capsys.readouterr().err
