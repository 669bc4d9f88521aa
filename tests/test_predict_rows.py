"""Predictions belong to rows: their number in the file, kept columns, and one row for one row."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import rarelab as package
from rarelab.cli import main
from rarelab.data.columns import Reading
from rarelab.data.file import TableFile
from rarelab.data.pieces import Pieces
from rarelab.data.places import locate
from rarelab.errors import RequestError
from rarelab.predict import command, table
from rarelab.predict.settings import request
from rarelab.quoting import override
from tables import claims

ROWS = 600


def payments(n: int = ROWS, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    amount = draw.normal(size=n).round(3)
    return pd.DataFrame(
        {
            "id": [f"{i:05d}" for i in range(n)],
            "amount": amount,
            "member": draw.random(n) < 0.5,
            "country": draw.choice(["DE", "FR", "IT"], n),
            "age": draw.integers(18, 80, n),
            "fraud": (amount + 0.3 * draw.normal(size=n) > 1.3).astype(int),
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The training file, the records' home and the folder of a run that keeps its ids."""
    folder = tmp_path_factory.mktemp("rows")
    payments().to_csv(folder / "train.csv", index=False)
    asked = [f"dataset.path={folder / 'train.csv'}", "dataset.target=fraud", "dataset.keep=[id]"]
    asked += ["model=linear", "loss=bce", "trainer.max_epochs=20", "optimizer.lr=0.05"]
    asked += ["schedule=constant", "trainer.eval_batch_size=64", "tracking.figures=false"]
    run = package.train(
        ["dataset=file", *asked, "tracking=none", f"paths.home={folder / 'home'}"]
    ).directory
    return {"file": folder / "train.csv", "home": folder / "home", "run": run}


def ask(trained: dict[str, Path], *arguments: object) -> int:
    settings = [trained["run"].name, *arguments]
    return main(["predict", *map(str, settings), "--home", str(trained["home"])])


def scores_of(trained: dict[str, Path], file: Path, *settings: str) -> pd.DataFrame:
    output = file.with_name("scores.parquet")
    assert ask(trained, file, f"output={output}", "overwrite=true", *settings) == 0
    return pd.read_parquet(output)


def test_recorded_predictions_name_the_rows_of_the_file(trained: dict[str, Path]) -> None:
    recorded = pd.read_parquet(trained["run"] / "predictions.parquet")
    assert list(recorded.columns) == ["split", "row", "id", "target", "score"]
    there = payments().iloc[recorded["row"].to_numpy()]
    assert recorded["id"].tolist() == there["id"].tolist()
    assert recorded["target"].tolist() == there["fraud"].tolist()
    again = scores_of(trained, trained["file"], "keep=[id]").iloc[recorded["row"].to_numpy()]
    assert again["id"].tolist() == recorded["id"].tolist()
    assert again["score"].to_numpy() == pytest.approx(recorded["score"].to_numpy(), rel=1e-6)


@pytest.mark.parametrize(
    "how",
    [{}, {"split": "grouped", "group": "customer"}, {"split": "time", "time": "day"}],
    ids=["stratified", "grouped", "time"],
)
@pytest.mark.parametrize("deduplicate", [False, True])
def test_the_splits_know_the_row_of_each_case(tmp_path: Path, how: dict, deduplicate: bool) -> None:
    draw = np.random.default_rng(len(how))
    frame = claims()[["id", "customer", "day", "fraud"]]
    frame["x"] = np.arange(len(frame)).astype(float)
    frame = frame.iloc[draw.permutation(np.repeat(np.arange(len(frame)), 2))]
    for name in ("t.csv", "t.parquet"):
        path = tmp_path / name
        write = frame.to_csv if name.endswith("csv") else frame.to_parquet
        write(path, **({"index": False} if name.endswith("csv") else {}))
        data = {"path": str(path), "target": "fraud", "positive_label": "yes", "numeric": "none"}
        kept = {"keep": ["id"], "drop": [*({"customer", "day"} - {*how.values()})]}
        splits = TableFile(**data, **kept, **how, deduplicate=deduplicate).splits(0)
        assert splits.features == ("x",)
        rows = []
        for _, part in splits.tables():
            assert part.origin is not None
            there = frame.iloc[part.origin["row"]]
            assert part.x[:, 0].tolist() == there["x"].tolist()
            assert part.y.tolist() == (there["fraud"] == "yes").tolist()
            assert part.origin["id"].tolist() == there["id"].tolist()
            rows += part.origin["row"].tolist()
        assert len({*rows}) == len(rows) == (400 if deduplicate else 800)


def test_a_kept_column_is_checked(tmp_path: Path) -> None:
    frame = payments().rename(columns={"country": "score"})
    frame.to_csv(tmp_path / "t.csv", index=False)

    def refusal(name: str) -> str:
        with pytest.raises(RequestError) as error:
            TableFile(str(tmp_path / "t.csv"), "fraud", keep=[name]).splits(0)
        return str(error.value)

    assert refusal("idd") == "dataset.keep=idd is not a column: did you mean 'id'?"
    assert "a column 'score' of its own; rename yours" in refusal("score")


def test_kept_columns_keep_their_spelling_and_type(trained: dict[str, Path]) -> None:
    new = payments(50, seed=1)
    new["ref"] = pd.array([2**60 + 1, None] * 25, dtype="Int64")
    for ending in ("csv", "parquet"):
        file = trained["home"].parent / f"kept.{ending}"
        new.to_csv(file, index=False) if ending == "csv" else new.to_parquet(file)
        found = scores_of(trained, file, "id=id", "keep=[ref,country]")
        own = ["score", "probability", "rank", "status"]
        assert list(found.columns) == ["row", "id", "ref", "country", *own]
        assert found["row"].tolist() == [*range(50)]
        assert found["id"].tolist() == new["id"].tolist()
        assert found["country"].tolist() == new["country"].tolist()
        ref = pq.read_table(file.with_name("scores.parquet"))["ref"].to_pylist()
        assert [None if r is None else int(r) for r in ref] == [2**60 + 1, None] * 25
        text = file.with_name("scores.csv")
        assert ask(trained, file, "keep=[ref]", f"output={text}", "overwrite=true") == 0
        again = pd.read_csv(text, dtype=str, keep_default_na=False)["ref"].tolist()
        assert again == ([str(2**60 + 1), ""] * 25)


def test_an_id_that_repeats_is_said(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    payments(50).assign(id=[7, 7, *range(48)]).to_csv(tmp_path / "new.csv", index=False)
    scores_of(trained, tmp_path / "new.csv", "id=id")
    assert "note: 2 rows repeat the 'id' of another row" in capsys.readouterr().out


def test_rank_and_alerts_cover_the_whole_file(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = payments(300, seed=2)
    rows.loc[:9] = rows.loc[10:19].to_numpy()  # ties
    rows.to_csv(tmp_path / "new.csv", index=False)
    found = scores_of(trained, tmp_path / "new.csv", "alerts=20")
    expected = found["score"].rank(method="min", ascending=False)
    assert found["rank"].tolist() == expected.tolist()
    assert found["alert"].tolist() == (found["rank"] <= found["alert"].sum()).tolist()
    assert 18 <= found["alert"].sum() <= 20
    assert "alert on the 20 highest scores of this file: score >= " in capsys.readouterr().out
    assert scores_of(trained, tmp_path / "new.csv", "alerts=300")["alert"].all()


def test_the_probability_is_calibrated_on_validation(trained: dict[str, Path]) -> None:
    recorded = pd.read_parquet(trained["run"] / "predictions.parquet")
    val = recorded[recorded["split"] == "val"]
    found = scores_of(trained, trained["file"]).iloc[val["row"].to_numpy()]
    assert found["probability"].mean() == pytest.approx(val["target"].mean(), abs=0.02)
    assert found["probability"].between(0, 1).all()
    assert (found.sort_values("score")["probability"].diff().dropna() >= 0).all()


def test_classes_beyond_two_get_probabilities_from_the_recorded_validation(
    tmp_path: Path, home: Path
) -> None:
    small = ["dataset.n_samples=3000", "loss=cross_entropy", "model=linear", "trainer.max_epochs=1"]
    run = package.train(["dataset=longtail_toy", *small, "schedule=constant", "tracking=none"])
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(9, 20)))
    rows.rename(columns=lambda i: f"f{i}").to_csv(tmp_path / "new.csv", index=False)
    output = tmp_path / "scores.csv"
    for _ in range(2):
        asked = ["predict", run.directory.name, str(tmp_path / "new.csv"), f"output={output}"]
        assert main([*asked, "overwrite=true"]) == 0
        found = pd.read_csv(output)
        named = [f"score/c{c}" for c in range(6)] + [f"probability/c{c}" for c in range(6)]
        assert list(found.columns) == ["row", *named, "status"]
        assert found.filter(like="probability/").sum(axis=1).to_numpy() == pytest.approx(1)
    assert main([*asked, "overwrite=true", "alerts=3"]) == 2


def test_an_unreadable_value_costs_its_row_alone(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """20,000 rows, 37 of them unreadable: 19,963 scores."""
    rows = payments(20_000, seed=3).drop(columns=["fraud", "id"])
    clean = scores_of(trained, write(rows, tmp_path / "clean.csv"))
    draw = np.random.default_rng(0)
    bad = np.sort(draw.choice(len(rows), 37, replace=False))
    spoilt = rows.astype({"amount": object, "age": object, "member": object})
    for i, row in enumerate(bad):
        column = ("amount", "age", "member")[i % 3]
        spoilt.loc[row, column] = ("n.n.", "inf", "12 years")[i % 3 if column == "amount" else 2]
    spoilt.loc[bad[1], "age"] = np.inf
    capsys.readouterr()
    found = scores_of(trained, write(spoilt, tmp_path / "spoilt.csv"))
    said = capsys.readouterr().out
    assert "scored 19,963 of 20,000 rows of spoilt.csv" in said
    assert f"37 rows have no score (see the column status): row {bad[0]}: column 'amount'" in said
    assert f"row {bad[1]}: column 'age' holds an infinite value" in said
    lost = found["score"].isna().to_numpy()
    assert np.flatnonzero(lost).tolist() == bad.tolist()
    assert found.loc[bad, ["probability", "rank"]].isna().all(axis=None)
    assert (found.loc[~lost, "status"] == "scored").all()
    assert (
        found.loc[bad[0], "status"]
        == "column 'amount' holds 'n.n.': expected numbers, as in training"
    )
    same = clean["score"].to_numpy()[~lost]
    assert found["score"].to_numpy()[~lost] == pytest.approx(same, rel=1e-5, abs=1e-6)
    assert found["rank"].max() <= 19_963 < clean["rank"].max() <= 20_000

    assert ask(trained, tmp_path / "spoilt.csv", "on_bad=refuse") == 2
    refused = capsys.readouterr().err
    assert f"row {bad[0]}: column 'amount' holds 'n.n.'" in refused and refused.count("\n") == 1
    assert not (tmp_path / "spoilt.scores.csv").exists()


def write(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_pieces_change_nothing(
    trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    rows = payments(1000, seed=4).astype({"age": object})
    rows.loc[500:, "country"] = None
    rows.loc[[3, 700], "age"] = None if ending == "parquet" else "?!"
    file = tmp_path / f"new.{ending}"
    if ending == "csv":
        rows.to_csv(file, index=False)
    else:
        rows.to_parquet(file, row_group_size=37)
    whole = scores_of(trained, file, "id=id", "budget=0.05")
    monkeypatch.setattr(command, "CELLS", 1000)
    monkeypatch.setattr(table, "ROWS", 130)
    parts = scores_of(trained, file, "id=id", "budget=0.05")
    assert len(parts) == 1000 and parts["score"].isna().sum() == (2 if ending == "csv" else 0)
    pd.testing.assert_frame_equal(whole, parts)
    text = tmp_path / "scores.csv.gz"
    assert ask(trained, file, "id=id", "budget=0.05", f"output={text}") == 0
    again = pd.read_csv(text, dtype={"id": str})
    assert again["id"].tolist() == rows["id"].tolist()
    assert again["score"].to_numpy(np.float32) == pytest.approx(parts["score"], nan_ok=True)


def test_what_later_rows_say_of_the_decimal_sign_holds_for_all(
    trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = payments(400, seed=4).astype({"amount": object})
    rows["amount"] = ["1.234"] * 399 + ["0.5"]
    file = tmp_path / "new.csv"
    rows.to_csv(file, index=False, sep=";")
    whole = scores_of(trained, file, "id=id")
    monkeypatch.setattr(command, "CELLS", 1000)
    pd.testing.assert_frame_equal(whole, scores_of(trained, file, "id=id"))
    with monkeypatch.context() as patch:
        patch.setattr(Pieces, "read_once", Pieces.read)
        pd.testing.assert_frame_equal(whole, scores_of(trained, file, "id=id"))


def test_memory_does_not_grow_with_the_rows_of_a_parquet_file(tmp_path: Path) -> None:
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(200_000, 8))).rename(columns=str)
    rows.to_parquet(tmp_path / "new.parquet", row_group_size=10_000)
    pieces = Pieces(locate(str(tmp_path / "new.parquet")), Reading())
    before = pa.total_allocated_bytes()
    most = [pa.total_allocated_bytes() - before for _ in pieces.read(pieces.names, 10_000)]
    assert len(most) == 20 and max(most) < 0.5 * rows.size * 8


def test_text_in_a_later_piece_clears_a_column_of_text(
    trained: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(command, "CELLS", 1000)
    rows = payments(400).assign(country=pd.Series([7] * 400, dtype=object))
    assert ask(trained, write(rows, tmp_path / "new.csv"), "output=-") == 2
    assert "'country' holds the number 7: expected text" in capsys.readouterr().err
    rows.loc[399, "country"] = "DE"
    assert ask(trained, write(rows, tmp_path / "new.csv"), "output=-") == 0


def test_drift_is_said(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    same = payments(400, seed=5)
    scores_of(trained, write(same, tmp_path / "same.csv"), "budget=0.05")
    said = capsys.readouterr().out
    assert "drift: " not in said and "mean score " in said
    assert "; validation 5.556%)" in said  # 5 of 90 rows
    new = same.assign(country=["XX", *same["country"][1:]], age=same["age"] + 40)
    new.loc[:99, "amount"] = np.nan
    scores_of(trained, write(new, tmp_path / "new.csv"))
    drifts = [x for x in capsys.readouterr().out.splitlines() if x.startswith("drift: ")]
    assert drifts[0] == "drift: levels not seen in training: country ('XX') in 1 row (0.2%)"
    assert drifts[1] == "drift: missing values: amount 25 % (training 0 %)"
    assert drifts[2].startswith("drift: outside the range of training: age (training 18 to 79) in")
    assert len(drifts) == 3


def test_new_columns_are_ignored_with_a_note_that_can_be_pasted(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = payments(20).assign(**{"x, y": 1, "it's": 2})
    file = write(rows, tmp_path / "new.csv")
    scores_of(trained, file)
    said = capsys.readouterr().out
    assert "note: columns 'x, y', \"it's\" were not there in training and are ignored" in said
    scores_of(trained, file, override("drop", ["x, y"]))
    said = capsys.readouterr().out
    assert 'note: column "it\'s" was not there in training and is ignored' in said
    scores_of(trained, file, 'drop=["x, y","it\'s"]')
    assert "note: column" not in capsys.readouterr().out


def test_a_note_survives_the_shell() -> None:
    import shlex

    names = ["a", "x, y", "it's", 'a "b" c', "back\\slash", "$HOME", "# no", "ümlaut", "1", "[z]"]
    for some in ([n] for n in names):
        (argument,) = shlex.split(override("drop", some))
        assert request("run", "file", [argument]).drop == tuple(some)
    (argument,) = shlex.split(override("drop", names))
    assert request("run", "file", [argument]).drop == tuple(names)


def test_settings_are_refused_in_one_line(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = write(payments(20).assign(rank=1), tmp_path / "new.csv")
    for arguments, said in {
        ("budget=0.1", "alerts=3"): "budget and alerts are both given",
        ("alerts=0",): "alerts=0: expected how many rows may alert, for example 100",
        ("alerts=1e3",): "alerts=1e3: expected",
        ("on_bad=ignore",): "on_bad=ignore is unknown: choose from: refuse, row",
        ("overwrite=yes",): "overwrite=yes: expected true or false",
        ("keep=[idd]",): "keep=idd is not a column: did you mean 'id'?",
        ("id=ids",): "id=ids is not a column: did you mean 'id'?",
        ("id=[id,age]",): "id=[id,age]: expected one column; beside it: id=id keep=[age]",
        ("keep=[rank]",): "keep=rank: the scores have a column 'rank' of their own",
        (f"output={file}",): "the file already exists and is not overwritten (overwrite=true",
        (f"output={file}", "overwrite=true"): "this is the file to score",
        (f"output={tmp_path}",): "expected a name ending in .csv",
    }.items():
        before = file.read_bytes()
        assert ask(trained, file, *arguments) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
        assert {*tmp_path.iterdir()} == {file} and file.read_bytes() == before


def test_a_file_that_cannot_be_scored_at_all_is_refused(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = payments(20).assign(amount="much")
    assert ask(trained, write(rows, tmp_path / "new.csv")) == 2
    assert "row 0: column 'amount' holds 'much': expected numbers" in capsys.readouterr().err
    for ending, save in (
        ("csv", write),
        ("parquet", lambda f, path: (f.to_parquet(path), path)[1]),
    ):
        assert ask(trained, save(payments(0), tmp_path / f"new.{ending}")) == 2
        assert "a header but no rows" in capsys.readouterr().err
    assert {x.stem for x in tmp_path.iterdir()} == {"new"}


def test_progress_is_told_on_long_work(trained: dict[str, Path], tmp_path: Path) -> None:
    pieces = [*command._told([[1, 2], [3]], "scored", (told := []).append, every=0.0)]
    assert pieces == [[1, 2], [3]]
    assert told == ["scored 2 rows …", "scored 3 rows …"]


@pytest.mark.parametrize("on_bad", ["row", "refuse"])
def test_a_row_of_an_array_without_a_finite_score_has_none(on_bad: str) -> None:
    scorer: Any = SimpleNamespace(scores=lambda rows: torch.tensor(rows[:, :1]))
    asked = command.Request("run", "x.npy", on_bad=on_bad)
    rows = np.array([[0.5], [np.nan], [np.inf], [0.25]], dtype=np.float32)
    if on_bad == "refuse":
        with pytest.raises(RequestError, match="row 1: the score is not finite"):
            command._score_array(scorer, rows, asked)
        return
    found = command._score_array(scorer, rows, asked)
    assert found.bad.tolist() == [1, 2] and found.found()[:, 0].tolist() == [0.5, 0.25]
    with pytest.raises(RequestError, match="row 0: the score is not finite"):
        command._score_array(scorer, rows[1:3], asked)
