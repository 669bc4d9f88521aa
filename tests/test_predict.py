"""A recorded run scores new rows just as it scored its test rows, and unpickles nothing."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import rarelab as package
from rarelab.cli import main
from rarelab.data.reading import read_table
from rarelab.data.tables import divide
from rarelab.errors import RarelabError, RequestError
from rarelab.predict import Scorer, read_model
from rarelab.predict.columns import check_columns
from rarelab.predict.spreadsheet import inert
from rarelab.training import Trainer
from tables import claims, transactions, zoo

pytestmark = pytest.mark.as_users_do

QUICK = [
    "trainer.max_epochs=2",
    "trainer.select=any",
    "trainer.eval_batch_size=100",
    "schedule.warmup_epochs=1",
    "schedule.blend_epochs=0",
    "tracking=none",
    "tracking.figures=false",
]


EMBEDDED = ["model.num_embeddings=piecewise_linear", "model.cat_embeddings=auto"]

MODELS = {
    "mlp": [],
    "tabular_resnet": ["model.num_embeddings=periodic", "model.cat_embeddings=3"],
    "tabm": ["model.k=4", "model.d_block=32", *EMBEDDED],
    "hist_gradient_boosting": ["model.max_iter=40"],
    "lightgbm": ["model.num_iterations=40"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The table, under ``file``, and the folder of one run per model trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "my transactions.csv"
    transactions().to_csv(path, index=False)
    request = ["dataset=file", f"dataset.path='{path}'", "dataset.target=verdict"]
    request += ["dataset.positive_label=fraud", "dataset.drop=[id]", "dataset.categorical=[shop]"]
    request += [f"paths.home={folder / 'home'}", *QUICK]
    runs = {
        name: package.train([*request, f"model={name}", *extra]).directory
        for name, extra in MODELS.items()
    }
    return {"file": path, "home": folder / "home", **runs}


@pytest.fixture
def test_rows(trained: dict[str, Path], tmp_path: Path) -> Path:
    """The run's test rows as lines of its file, without the target."""
    lines = trained["file"].read_text().splitlines()
    y = np.array([line.endswith("fraud") for line in lines[1:]]).astype(int)
    kept = [lines[0], *(lines[1 + i] for i in divide.stratified(y, seed=0)[2])]
    path = tmp_path / "new.csv"
    path.write_text("\n".join(line.rpartition(",")[0] for line in kept) + "\n")
    return path


def ask(trained: dict[str, Path], *arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--home", str(trained["home"])])


def refusal(trained: dict[str, Path], capsys: pytest.CaptureFixture, *arguments: object) -> str:
    capsys.readouterr()
    assert ask(trained, *arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    return said.err.removeprefix("error: ").strip()


@pytest.mark.parametrize("model", MODELS)
def test_the_runs_test_rows_get_the_recorded_scores_bit_for_bit(
    trained: dict[str, Path], test_rows: Path, model: str
) -> None:
    recorded = pd.read_parquet(trained[model] / "predictions.parquet")
    recorded = recorded[recorded["split"] == "test"]["score"].to_numpy()
    for output in ("scores.parquet", "scores.csv"):
        path = test_rows.with_name(output)
        assert ask(trained, trained[model].name, test_rows, f"output={path}") == 0
        table = pd.read_parquet(path) if output.endswith("parquet") else pd.read_csv(path)
        assert list(table.columns) == ["row", "score", "probability", "rank", "status"]
        again = table["score"].to_numpy().astype(np.float32)
        assert len(set(again)) > 20
        assert again.tobytes() == recorded.tobytes()


TRAINED_ON = {
    "claims": (claims, "fraud", "yes", ["code"]),
    "transactions": (transactions, "verdict", "fraud", ["shop"]),
    "zoo": (zoo, "y", None, ["code", "code or not", "decimal code", "decimal code or not"]),
}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("name", TRAINED_ON)
def test_the_training_file_gets_the_recorded_scores_row_by_row(
    tmp_path: Path, home: Path, name: str, ending: str
) -> None:
    make, target, positive, codes = TRAINED_ON[name]
    file, frame = tmp_path / f"{name}.{ending}", make()
    if ending == "csv":
        frame.to_csv(file, index=False)
    else:
        frame.drop(columns=["huge", "huge or not"], errors="ignore").to_parquet(file)
    asked = [f"dataset.path='{file}'", f"dataset.target={target}", f"dataset.categorical={codes}"]
    asked += [f"dataset.positive_label={positive}"] if positive else []
    run = package.train(["dataset=file", *asked, "model=linear", "loss=bce", *QUICK])
    output = tmp_path / "scores.parquet"
    assert main(["predict", run.directory.name, str(file), f"output={output}"]) == 0
    scores = pd.read_parquet(output)["score"].to_numpy()
    recorded = pd.read_parquet(run.directory / "predictions.parquet")
    y = (frame[target] == (1 if positive is None else positive)).to_numpy().astype(np.int64)
    _, *others = divide.stratified(y, seed=0)
    for split, rows in zip(("val", "test"), others, strict=True):
        there = recorded[recorded["split"] == split]
        assert there["target"].tolist() == y[rows].tolist()
        assert scores[rows] == pytest.approx(there["score"].to_numpy(), rel=1e-5, abs=1e-6)


def test_a_column_is_read_as_training_read_it(tmp_path: Path, home: Path) -> None:
    """Even if the new file has more or fewer missing values, another spelling or another type."""
    rows = zoo().assign(paid=[["True", "False", None][i % 3] for i in range(400)])
    rows[["code", "paid", "digits", "y"]].to_csv(tmp_path / "t.csv", index=False)
    asked = [f"dataset.path={tmp_path / 't.csv'}", "dataset.target=y", "dataset.categorical=[code]"]
    run = package.train(["dataset=file", *asked, "model=linear", "loss=bce", *QUICK])
    fitted = read_model(run.directory / "model").preprocessor

    def features(text: str) -> list[list[float]]:
        path = tmp_path / "new.csv"
        path.write_text(text)
        texts = [name for name, kind in fitted.columns.items() if kind == "text"]
        return fitted.transform(read_table(path, text=texts)).tolist()

    full = features("code,paid,digits\n1,True,7\n2,False,007\n3,,07a\n")
    assert all(sum(row) == 3 for row in full)
    assert features("code,paid,digits\n1,True,7\n2,False,007\n") == full[:2]
    assert features("code,paid,digits\n1.0,true,7\n2.0,FALSE,007\n") == full[:2]
    assert features("code,paid,digits\n1,True,7\n2,False,007\nnone,maybe,7\n")[:2] == full[:2]
    assert features("code,paid,digits\n1.0,1,7\n2.0,0,007\nx,?,7\n")[:2] == full[:2]


def test_classes_beyond_two_get_a_score_each(tmp_path: Path, home: Path) -> None:
    done = package.train(
        ["dataset=longtail_toy", "dataset.n_samples=4000", "loss=cross_entropy", *QUICK]
    )
    scorer = read_model(done.directory / "model")
    rows = pd.DataFrame(np.zeros((3, 20)), columns=[f"f{i}" for i in range(20)])
    table = scorer.table(rows)
    assert list(table.columns) == [f"score/c{c}" for c in range(6)]
    assert table.nunique().eq(1).all()
    with pytest.raises(RequestError, match=r"alerts need two classes, this run has 6"):
        scorer.threshold(0.01)


def test_a_run_with_calibration_and_costs_gives_probability_and_decision(
    trained: dict[str, Path], test_rows: Path
) -> None:
    request = ["dataset=file", f"dataset.path='{trained['file']}'", "dataset.target=verdict"]
    request += ["dataset.positive_label=fraud", "dataset.drop=[id]", "dataset.categorical=[shop]"]
    asked = ["calibration=isotonic", "costs=[[0,1],[20,0]]", f"paths.home={trained['home']}"]
    run = package.train([*request, *asked, "loss=bce", *QUICK])
    assert ask(trained, run.directory.name, test_rows) == 0
    table = pd.read_csv(test_rows.with_name("new.scores.csv"))
    decided = ["decision", "alert", "rank", "status"]
    assert list(table.columns) == ["row", "score", "probability", *decided]
    assert (table["alert"] == (table["decision"] == "fraud")).all()
    recorded = pd.read_parquet(run.directory / "predictions.parquet")
    fraud = recorded[recorded["split"] == "test"]["target"].to_numpy() == 1
    brier = ((table["probability"] - fraud) ** 2).mean()
    assert brier == pytest.approx(run.metrics["test/calibrated/brier"], abs=1e-12)
    says_fraud = (table["decision"] == "fraud").to_numpy()
    assert set(table["decision"]) == {"fine", "fraud"}
    bill = np.where(fraud, 20 * ~says_fraud, 1 * says_fraud).mean()
    assert bill == pytest.approx(run.metrics["test/expected_cost"])


def test_with_several_classes_the_decision_minimises_expected_cost(home: Path) -> None:
    costs = (1 - np.eye(6)) * np.arange(1, 7)[:, None]
    asked = ["calibration=platt", f"costs={costs.tolist()}".replace(" ", "")]
    toy = ["dataset=longtail_toy", "dataset.n_samples=4000", "loss=cross_entropy"]
    run = package.train([*toy, *asked, *QUICK])
    rows = pd.read_parquet(run.directory / "predictions.parquet")
    rows = rows[rows["split"] == "test"]
    scores = torch.tensor(rows.filter(like="score/").to_numpy(), dtype=torch.float32)
    scorer = read_model(run.directory / "model")
    said = scorer.rules.columns(scores, scorer.classes)
    assert list(said) == [f"probability/c{c}" for c in range(6)] + ["decision"]
    decided = np.array([scorer.classes.index(name) for name in said["decision"]])
    bill = costs[rows["target"].to_numpy(), decided].mean()
    assert bill == pytest.approx(run.metrics["test/expected_cost"])


def test_a_budget_alerts_at_the_validation_threshold(
    trained: dict[str, Path], test_rows: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = pd.read_parquet(trained["mlp"] / "predictions.parquet")
    val = rows[rows["split"] == "val"]
    value = np.sort(val["score"].to_numpy())[::-1][math.ceil(0.02 * len(val)) - 1]
    assert ask(trained, trained["mlp"].name, test_rows, "budget=0.02") == 0
    said = capsys.readouterr().out
    table = pd.read_csv(test_rows.with_name("new.scores.csv"))
    assert table["alert"].tolist() == (table["score"].astype(np.float32) >= value).tolist()
    assert f"score >= {value:.6g}" in said
    hits = ((val["score"] >= value) & (val["target"] == 1)).sum()
    assert f"({(val['score'] >= value).sum()} of its {len(val)} rows, {hits} of its" in said
    assert f"{table['alert'].sum()} of {len(table)} rows alert" in said


def scorer_with(scores: list[float]) -> Scorer:
    values = np.array(scores, dtype=np.float32)
    return Scorer(None, Trainer(), None, ("0", "1"), (values, values > 2))  # type: ignore[arg-type]


def test_a_threshold_never_exceeds_the_budget_on_validation() -> None:
    scorer = scorer_with([5, 4, 3, 3, 3, 2, 1, 1, 1, 1])
    assert [scorer.threshold(b).value for b in (0.1, 0.2, 0.3, 0.5, 0.65)] == [5, 4, 4, 3, 1 + 1]
    chosen = scorer.threshold(0.4)
    assert (chosen.rows, chosen.alerts, chosen.positives, chosen.hits) == (10, 2, 5, 2)


def test_ties_at_the_top_beyond_the_budget_raise_no_alerts() -> None:
    chosen = scorer_with([7, 7, 7, 1]).threshold(0.5)
    assert chosen.value == math.inf and chosen.alerts == 0


def test_a_run_is_found_by_folder_and_by_id_prefix(
    trained: dict[str, Path], test_rows: Path, capsys: pytest.CaptureFixture
) -> None:
    entry = json.loads((trained["mlp"] / "record.json").read_text())
    for name in (f"rarelab/{trained['mlp'].name}", entry["uid"], entry["uid"][:10]):
        assert ask(trained, name, test_rows, "output=-") == 0
        said = capsys.readouterr()
        assert said.out.startswith("row,score,probability,rank,status\n0,")
        assert trained["mlp"].name in said.err
    assert "matches several runs" in refusal(trained, capsys, "file-", test_rows)
    wrong = trained["mlp"].name.replace("mlp", "mpl")
    assert f"did you mean '{trained['mlp'].name}'" in refusal(trained, capsys, wrong, test_rows)
    assert "no such run" in refusal(trained, capsys, "0" * 32, test_rows)


def test_an_invalid_request_is_refused_in_one_line_and_writes_nothing(
    trained: dict[str, Path], test_rows: Path, capsys: pytest.CaptureFixture
) -> None:
    run, before = trained["mlp"].name, set(test_rows.parent.iterdir())
    for arguments, said in {
        ("buget=1",): "buget: there is no such setting; did you mean 'budget'?",
        ("budget=2",): "budget=2.0 is out of range: expected a number in (0, 1)",
        ("budget=x",): "budget=x: expected a number, for example 0.005",
        ("output=a.xls",): "output=a.xls: expected a name ending in .csv",
        ("output=/nowhere/a.csv",): "output=/nowhere/a.csv: there is no folder /nowhere",
        (f"output={test_rows}",): "the file already exists and is not overwritten",
        ("drop=[ammount]",): "drop=ammount: there is no such column; did you mean 'amount'?",
    }.items():
        assert said in refusal(trained, capsys, run, test_rows, *arguments)
    absent = refusal(trained, capsys, run, test_rows.with_name("neu.csv"))
    assert absent.endswith("there is no such file: did you mean 'new.csv'?")
    assert set(test_rows.parent.iterdir()) == before


def test_mismatched_columns_are_named(trained: dict[str, Path]) -> None:
    fitted = read_model(trained["mlp"] / "model").preprocessor
    rows = pd.read_csv(trained["file"], dtype={"zip": str}).head(50)
    check_columns(rows, fitted)
    check_columns(rows.drop(columns=["id", "verdict"]), fitted)
    assert check_columns(rows.assign(note=1, remark=2), fitted, drop=["note"]) == ["remark"]
    check_columns(rows.assign(country="Atlantis"), fitted)
    check_columns(rows.assign(zip=7), fitted)
    for changed, said in [
        (rows.rename(columns={"amount": "amonut"}), "'amount' is missing: did you mean 'amonut'?"),
        (rows.drop(columns="amount"), "'amount' is missing: the file has id, country, zip, age, "),
        (rows.assign(country=7), "'country' holds the number 7: expected text"),
        (rows.head(0), "a header but no rows"),
        (pd.concat([rows, rows[["age"]]], axis=1), "'age' occurs more than once"),
    ]:
        with pytest.raises(RequestError) as error:
            check_columns(changed, fitted)
        assert said in str(error.value)
    with pytest.raises(RequestError, match="'amount' holds 'many': expected numbers"):
        fitted.transform(rows.assign(amount=["many", *["1"] * 49]))
    with pytest.raises(RequestError, match=r"'amount' holds .*: expected numbers"):
        fitted.transform(rows.assign(amount=pd.Timestamp("2026-01-01")))


@pytest.mark.parametrize("model", MODELS)
def test_the_model_files_hold_no_pickled_class(trained: dict[str, Path], model: str) -> None:
    folder = trained[model] / "model"
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        assert all(array.dtype != object for array in arrays.values())
    names = {path.name for path in folder.iterdir()}
    if model in ("hist_gradient_boosting", "lightgbm"):
        assert names == {"model.json", "arrays.npz"}
    else:
        assert names == {"model.json", "arrays.npz", "checkpoint.pt"}
        torch.load(folder / "checkpoint.pt", weights_only=True)


def altered(run: Path, into: Path, **changes: object) -> Path:
    """A copy of a run's ``model/`` with changed entries in ``model.json``."""
    into.mkdir()
    for path in (run / "model").iterdir():
        (into / path.name).write_bytes(path.read_bytes())
    facts = json.loads((into / "model.json").read_text())
    (into / "model.json").write_text(json.dumps(facts | changes))
    return into


def test_a_record_cannot_choose_arbitrary_classes(trained: dict[str, Path], tmp_path: Path) -> None:
    evil = {"_target_": "os.system", "command": "true"}
    folder = altered(trained["mlp"], tmp_path / "evil", model=evil, allow_targets=["os"])
    with pytest.raises(RequestError, match=r"'os\.system' is not a model of rarelab, torch or"):
        read_model(folder)
    create = "${oc.create:'{_target_: os.system, command: id}'}"
    evil = {"_target_": "torch.nn.Identity", "args": [create]}
    with pytest.raises(RequestError, match="interpolations are not allowed in a record"):
        read_model(altered(trained["mlp"], tmp_path / "resolved", model=evil))


def test_a_damaged_or_newer_record_is_refused(trained: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RarelabError, match="written by a newer rarelab"):
        read_model(altered(trained["mlp"], tmp_path / "later", format=3))
    cut = altered(trained["mlp"], tmp_path / "cut")
    (cut / "checkpoint.pt").write_bytes((cut / "checkpoint.pt").read_bytes()[:500])
    with pytest.raises(RarelabError, match=r"cut is damaged"):
        read_model(cut)
    with pytest.raises(RequestError, match="left no model to score with"):
        read_model(tmp_path / "nothing" / "model")


CURVE = {"slope": 1.0, "intercept": 0.0, "x": [], "y": []}
RULES = {
    "calibration": {"method": "platt", "curves": [CURVE]},
    "decision": {"costs": [[0.0, 1.0], [9.0, 0.0]], "threshold": 0.1},
}
SWAPPED = [None, 7, "text", [], {}, [None], {"a": []}, -1, True, 1e400]


def spoilt_values(facts: dict) -> Iterator[tuple[str, dict]]:
    """``model.json`` with each key in turn, nested ones too, removed or given another type."""
    places = [((), key) for key in facts]
    nested = [("preprocessing",), ("preprocessing", "texts"), ("preprocessing", "seen")]
    nested += [("scoring",), ("model",)]
    nested += [("calibration",), ("decision",)]
    for path in nested:
        node = facts
        for step in path:
            node = node[step]
        places += [(path, key) for key in node]
    for path, key in places:
        for value in ("gone", *SWAPPED):
            changed = json.loads(json.dumps(facts))
            node = changed
            for step in path:
                node = node[step]
            if value == "gone":
                del node[key]
            elif type(value) is type(node[key]) or value is None:
                continue
            else:
                node[key] = value
            yield f"{'.'.join((*path, key))}: {value!r}", changed


def refused(folder: Path) -> bool:
    """Whether the folder is refused, with one line that names it; any other error is raised."""
    try:
        read_model(folder)
    except RarelabError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
        return True
    return False


# Keys that have a default, and numbers that are valid values.
FORGIVEN = re.compile(
    r"(calibration|decision|columns|preprocessing\.(seen|reading|high_cardinality|dates|hashed|free)|scoring\.\w+"
    r"|model\.(?!_target_)\w+): 'gone'"
    r"|(decision\.threshold|model\.learning_rate|model\.l2_regularization): -?\d"
)


@pytest.mark.parametrize("model", ["mlp", "hist_gradient_boosting"])
def test_a_model_json_with_a_missing_or_mistyped_key_is_refused(
    trained: dict[str, Path], tmp_path: Path, model: str
) -> None:
    folder = altered(trained[model], tmp_path / "spoilt", **RULES)
    facts = json.loads((folder / "model.json").read_text())
    read_model(folder)
    count, passed = 0, []
    for what, changed in spoilt_values(facts):
        (folder / "model.json").write_text(json.dumps(changed))
        count += 1
        if not refused(folder):
            passed.append(what)
    assert count > 200
    assert not [what for what in passed if not FORGIVEN.fullmatch(what)]


@pytest.mark.parametrize("model", ["mlp", "hist_gradient_boosting"])
@pytest.mark.parametrize("file", ["model.json", "arrays.npz", "checkpoint.pt"])
def test_a_truncated_or_overwritten_file_is_refused(
    trained: dict[str, Path], tmp_path: Path, model: str, file: str
) -> None:
    folder = altered(trained[model], tmp_path / "cut")
    path = folder / file
    if not path.exists():
        assert (model, file) == ("hist_gradient_boosting", "checkpoint.pt")
        return
    whole = path.read_bytes()
    middle = len(whole) // 2
    for content in (
        *(whole[: int(len(whole) * share)] for share in (0, 0.01, 0.3, 0.7, 0.99)),
        *(b"\0" * len(whole), b"\x80\x04.", b"[" * 100_000, b"null", b"\xff\xfe"),
        whole[: middle - 50] + b"\0" * 100 + whole[middle + 50 :],
    ):
        path.write_bytes(content)
        assert refused(folder), content[:20]
    path.unlink()
    if file != "model.json":
        assert refused(folder)


@pytest.mark.parametrize("model", ["mlp", "hist_gradient_boosting", "lightgbm"])
def test_a_missing_or_mistyped_array_is_refused(
    trained: dict[str, Path], tmp_path: Path, model: str
) -> None:
    folder = altered(trained[model], tmp_path / "arrays")
    with np.load(folder / "arrays.npz") as stored:
        arrays = dict(stored)
    for name, array in arrays.items():
        spoilt = [None, array.astype(str), array[..., None], np.array([[array.size] * 3] * 2)]
        if array.dtype.kind == "f":
            spoilt.append(np.full_like(array, np.nan))
        if array.dtype.kind == "i":
            spoilt.append(np.full_like(array, 10**9))
        for other in spoilt:
            changed = {k: v for k, v in arrays.items() if k != name}
            np.savez(
                folder / "arrays.npz", **(changed if other is None else {**arrays, name: other})
            )
            if name == "baseline" and other is None:
                assert read_model(folder).baseline is None  # as an older run
            elif other is None or other.dtype.kind in "U" or name.startswith("model/"):
                assert refused(folder), (name, other)
            else:
                refused(folder)


def test_missing_or_invalid_weights_are_refused(trained: dict[str, Path], tmp_path: Path) -> None:
    folder = altered(trained["mlp"], tmp_path / "weights")
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    name, weight = next(iter(content["model"].items()))
    for other in (weight * math.nan, weight / 0, weight[:-1], weight.bool()[0], None, "text", 3):
        torch.save({"model": {**content["model"], name: other}}, folder / "checkpoint.pt")
        assert refused(folder), other
    for other in ({}, {"model": None}, {"model": {}}, [], weight):
        torch.save(other, folder / "checkpoint.pt")
        assert refused(folder), other


def test_a_class_named_like_a_formula_is_inert_in_a_spreadsheet() -> None:
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@x", "\t=1", "fine", "- no"]
    table = pd.DataFrame({"=f": [-0.5] * 7, "decision": np.array(names, dtype=object)})
    shown = inert(table)
    assert list(shown.columns) == ["'=f", "decision"] and shown["'=f"].eq(-0.5).all()
    expected = ["'=cmd|' /C calc'!A0", "+1", "-1", "'@x", "'\t=1", "fine", "'- no"]
    assert shown["decision"].tolist() == expected
    assert table["decision"].tolist() == names


def test_a_users_own_model_must_be_explicitly_trusted(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "own_predictable.py").write_text(
        "from rarelab.models import Linear\n\n\nclass Own(Linear):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    small = ["dataset.n_samples=2000", "dataset.pos_rate=0.05", "allow_targets=[own_predictable]"]
    run = package.train([*small, "model=linear", "model._target_=own_predictable.Own", *QUICK])
    rows = pd.DataFrame(np.zeros((3, 20)), columns=[f"f{i}" for i in range(20)])
    rows.to_csv("rows.csv", index=False)
    assert main(["predict", run.directory.name, "rows.csv"]) == 2
    assert "allow_targets" in capsys.readouterr().err
    trusted = ["allow_targets=[own_predictable]", "output=-"]
    assert main(["predict", run.directory.name, "rows.csv", *trusted]) == 0


def test_a_run_on_sequences_refuses_to_score_a_table(home: Path) -> None:
    done = package.train(
        ["dataset=sequence_toy", "dataset.n_sequences=300", "model=gru", "loss=bce", *QUICK]
    )
    with pytest.raises(RequestError, match="trained on sequences, not on rows of a table"):
        read_model(done.directory / "model")


def test_scores_are_written_atomically(
    trained: dict[str, Path],
    test_rows: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(table: pd.DataFrame, file, **options: object) -> None:
        file.write(b"row,score\n0,")
        raise OSError(28, "No space left on device")

    run, before = trained["mlp"].name, set(test_rows.parent.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", full)
        assert ask(trained, run, test_rows) == 1
    said = capsys.readouterr().err
    assert "new.scores.csv cannot be written: No space left" in said and said.count("\n") == 1
    assert set(test_rows.parent.iterdir()) == before
    assert ask(trained, run, test_rows) == 0
