"""Recall at the budget by group, against loops; what may be asked, and what is refused."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from rarelab import cli
from rarelab.compare.by_group import MISSING, MOST_LEVELS, counts_of, flagged_shares, levels_of
from rarelab.compare.study import Options, study
from rarelab.records.load import Records
from recorded import BCE, SMOOTH_AP, leave_files, record, scored

ROWS, BUDGET = 800, 0.05
COUNTRY = np.array(["DE", "FR", "NL", ""])[np.random.default_rng(0).integers(0, 4, ROWS)]


def keep(path: Path, **columns) -> None:
    """Add kept columns to the test rows of a ``predictions.parquet``."""
    table = pq.read_table(path)
    other = table.num_rows - ROWS
    for name, values in columns.items():
        table = table.append_column(name, pa.array([*values[:other], *values]))
    pq.write_table(table, path)


def arms(home: Path, losses=("bce", "smooth_ap"), seeds: int = 3, **columns) -> None:
    for shift, loss in enumerate(losses):
        for seed in range(seeds):
            directory = home / "runs" / "study" / f"{loss}-{seed}"
            own = scored(ROWS, 60, 1.0 + shift, draw=1, noise=0.3, seed=10 * shift + seed)
            metrics = leave_files(directory, *own)
            if columns:
                keep(directory / "predictions.parquet", **columns)
            record(home, {"loss": loss}, seed, metrics, directory=directory)


def asked(home: Path, *columns: str, **options):
    given = {"budget": BUDGET, "baseline": "bce", **options}
    return study(Records(home), Options(experiment="study", by=columns, **given)).groups


def test_counts_and_intervals_agree_with_a_loop(home: Path) -> None:
    arms(home, country=COUNTRY)
    (found,) = asked(home, "country")
    assert [group.level for group in found.groups] == ["DE", "FR", "NL", MISSING, "all rows"]
    assert found.arms == ["loss=bce", "loss=smooth_ap"]
    for arm, loss in (("loss=bce", "bce"), ("loss=smooth_ap", "smooth_ap")):
        seen: dict[str, list] = {level: [] for level in ("DE", "FR", "NL", "")}
        for seed in range(3):
            path = home / "runs" / "study" / f"{loss}-{seed}" / "predictions.parquet"
            test = pd.read_parquet(path).query("split == 'test'").reset_index(drop=True)
            top = set(test["score"].sort_values(ascending=False).index[: round(BUDGET * ROWS)])
            for level, counts in seen.items():
                flagged = caught = positives = rows = 0
                for i in range(ROWS):
                    if test["country"][i] == level:
                        rows += 1
                        positives += test["target"][i]
                        flagged += i in top
                        caught += i in top and test["target"][i]
                counts.append((rows, positives, flagged, caught))
        for group in found.groups[:-1]:
            level = "" if group.level == MISSING else group.level
            rows, positives, flagged, caught = np.mean(seen[level], axis=0)
            cell = group.cells[arm]
            assert (group.rows, group.positives) == (rows, positives)
            assert (cell.flagged, cell.caught) == pytest.approx((flagged, caught))
            assert cell.recall == pytest.approx(caught / positives)
            low = stats.beta.ppf(0.025, caught, positives - caught + 1)
            high = stats.beta.ppf(0.975, caught + 1, positives - caught)
            assert (cell.low, cell.high) == pytest.approx((low, high))
        everything = found.groups[-1]
        assert (everything.rows, everything.positives) == (ROWS, 60)
        assert everything.cells[arm].flagged == pytest.approx(BUDGET * ROWS)
        assert everything.cells[arm].caught == pytest.approx(
            sum(group.cells[arm].caught for group in found.groups[:-1])
        )


def test_the_interval_of_a_single_run_is_scipys_exact_one(home: Path) -> None:
    arms(home, seeds=1, country=COUNTRY)
    (found,) = asked(home, "country")
    for group in found.groups:
        for cell in group.cells.values():
            exact = stats.binomtest(round(cell.caught), round(group.positives)).proportion_ci()
            assert (cell.low, cell.high) == pytest.approx((exact.low, exact.high))


def test_rows_that_tie_at_the_edge_are_flagged_in_part() -> None:
    scores = np.array([5.0, 4.0, 3.0, 3.0, 3.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    shares = flagged_shares(scores, 0.3)
    assert shares.tolist() == pytest.approx([1, 1, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0, 0])
    assert flagged_shares(np.zeros(10), 0.3).sum() == pytest.approx(3)
    positives, codes = np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 1]), np.arange(10) % 2
    counts = counts_of([(scores, positives, codes)], 2, 0.3)
    assert counts.tolist() == [
        pytest.approx([5, 5]), pytest.approx([2, 1]),
        pytest.approx([1 + 2 / 3, 1 + 1 / 3]), pytest.approx([1 + 1 / 3, 0]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "names", "codes"),
    [
        (["b", "a", "b"], ["a", "b"], [1, 0, 1]),
        ([10, 9, None, 10], ["9", "10", MISSING], [1, 0, 2, 1]),
        (["10", "9", " ", "9"], ["9", "10", MISSING], [1, 0, 2, 0]),
        ([None, float("nan")], [MISSING], [0, 0]),
        (["1", "x"], ["1", "x"], [0, 1]),
    ],
)
def test_levels_are_values_in_their_order(values, names, codes) -> None:
    found, named = levels_of(values)
    assert (named, found.tolist()) == (names, codes)


def test_numbers_of_many_values_become_quartiles() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1, 101)).astype(str)
    codes, names = levels_of([*values, ""])
    assert names == [
        "up to 25.75",
        "over 25.75 to 50.5",
        "over 50.5 to 75.25",
        "over 75.25",
        MISSING,
    ]
    assert np.bincount(codes).tolist() == [25, 25, 25, 25, 1]
    numbers = values.astype(float)
    assert ((numbers <= 50.5) == (codes[:-1] <= 1)).all()
    # Half of the values are 0: two quartiles are one group, and none is empty.
    codes, names = levels_of([0.0] * 60 + list(range(1, 41)))
    assert np.bincount(codes).min() > 0 and len(names) == len(set(codes.tolist()))


def test_beyond_twenty_levels_the_rest_are_counted(home: Path) -> None:
    shop = np.array([f"shop {i:02}" for i in range(30)])[np.arange(ROWS) % 30]
    arms(home, seeds=1, shop=shop)
    (found,) = asked(home, "shop")
    assert len(found.groups) == MOST_LEVELS + 2
    assert [group.level for group in found.groups[-2:]] == ["10 more values", "all rows"]
    assert sum(group.rows for group in found.groups[:-1]) == ROWS
    assert min(g.positives for g in found.groups[:-2]) >= 2


def test_a_run_without_the_column_takes_it_from_another_of_the_same_rows(home: Path) -> None:
    arms(home, ["bce"], country=COUNTRY)
    arms(home, ["smooth_ap"])
    (found,) = asked(home, "country")
    assert found.arms == ["loss=bce", "loss=smooth_ap"] and not found.notes
    directory = home / "runs" / "study" / "other"
    metrics = leave_files(directory, *scored(ROWS, 60, 1.0, draw=1, seed=9))
    record(home, {"loss": "other"}, 0, metrics, directory=directory, digest="others")
    (found,) = asked(home, "country")
    assert found.notes == ["1 runs did not keep country and are left out"]


@pytest.mark.parametrize(
    ("columns", "answer"),
    [
        ({"country": COUNTRY}, "report.by=contry: no run kept this column beside its predictions; "
         'did you mean \'country\'? (to keep it, train with "dataset.keep=[contry]")'),
        ({}, 'there are none (to keep it, train with "dataset.keep=[contry]")'),
    ],
)  # fmt: skip
def test_a_column_that_was_not_kept_is_refused_in_one_line(
    home: Path, capsys, monkeypatch: pytest.MonkeyPatch, columns: dict, answer: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["rarelab"])
    arms(home, seeds=1, **columns)
    assert cli.main(["compare", "experiment=study", "report.by=[contry]"]) == 2
    told = capsys.readouterr()
    assert not told.out and told.err.count("\n") == 1 and answer in told.err
    assert not (home / "reports").exists()


def test_the_group_of_the_data_is_named_as_its_column(home: Path) -> None:
    for seed, (loss, arm) in enumerate((("bce", BCE), ("smooth_ap", SMOOTH_AP))):
        directory = home / "runs" / "study" / loss
        metrics = leave_files(directory, *scored(ROWS, 60, 1.0, draw=1, seed=seed))
        keep(directory / "predictions.parquet", **{"given/group": COUNTRY})
        given = {**arm, "dataset.group": "land"}
        record(home, given, 0, metrics, directory=directory)
    (found,) = asked(home, "land")
    assert found.column == "land" and found.groups[0].level == "DE"


def test_compare_by_a_kept_column_of_a_file(home: Path, tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(2)
    label = (rng.random(1500) < 0.1).astype(int)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=1500) + label,
            "country": rng.choice(["DE", "FR"], 1500),
            "label": label,
        }
    )
    frame.to_csv(tmp_path / "my.csv", index=False)
    file = [f"dataset.path={tmp_path / 'my.csv'}", "dataset.target=label", "dataset=file"]
    for model in ("hist_gradient_boosting", "sklearn.linear_model.LogisticRegression"):
        chosen = f"model._target_={model}" if "." in model else f"model={model}"
        kept = ["dataset.keep=[country]", "tracking.experiment=mine"]
        assert cli.main(["train", chosen, *file, *kept]) == 0
    capsys.readouterr()
    wanted = ["experiment=mine", "baseline=hist_gradient_boosting", "budget=0.1"]
    assert cli.main(["compare", *wanted, "report.by=[country]"]) == 0
    told = capsys.readouterr().out
    title = "my.csv: recall at 10 % flagged, by country"
    assert told.splitlines()[0].startswith("Not settled: whether ")
    assert title.partition(": ")[2] in told and "\nall rows" in told
    folder = (home / "reports" / "mine" / "latest").resolve()
    assert "recall at 10 % flagged, by country" in (folder / "report.html").read_text("utf-8")
    with (folder / "groups.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["group"] for row in rows[::2]] == ["DE", "FR", "all rows"]
    tested = int(float(rows[-1]["rows"]))
    assert float(rows[-1]["flagged"]) == pytest.approx(np.ceil(0.1 * tested))
    content = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    assert len(content["groups"]) == 6 and content["decisions"][0]["kind"] == "open"
