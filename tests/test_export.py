"""A run as an ONNX graph scores raw rows as the run does, or is not written."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm

import rarelab as package
from rarelab.boosting import LightGBMLogLoss
from rarelab.boosting.text_trees import text_trees
from rarelab.cli import main
from rarelab.data.splits import Table
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RarelabError
from rarelab.functional.threads import limited_threads
from rarelab.models import HistGradientBoosting
from rarelab.models.trees import PlainTrees
from rarelab.predict import graph
from rarelab.predict.export import probes
from refitted import TRAINED, alike, blocks, trained

EXPORTED = [*TRAINED, "lightgbm"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return trained(tmp_path_factory.mktemp("runs"), *EXPORTED)


def answer(model: str | bytes, inputs: dict[str, Any]) -> NDArray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def as_documented(frame: pd.DataFrame) -> NDArray:
    """The scores of ``model.onnx`` in the working directory, by the code of docs/python.md."""
    (code,) = [block for block in blocks() if "onnxruntime" in block]
    names: dict[str, Any] = {"frame": frame}
    exec(compile(code, "python.md", "exec"), names)
    return names["scores"][:, 0]


def ask(runs: dict[str, Path], *arguments: object) -> int:
    return main(["export", *map(str, arguments), "--home", str(runs["home"])])


@pytest.mark.parametrize("model", EXPORTED)
def test_the_graph_scores_the_raw_test_rows_as_the_run_did(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch, model: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert ask(runs, runs[model].name, "onnx", "output=model.onnx") == 0
    said = capsys.readouterr()
    assert "on the run's 375 test rows its scores differ by at most" in said.out
    frame = pd.read_csv(runs["file"], dtype={"zip": str})
    found = as_documented(frame)
    expected = package.load(runs[model]).score(frame)["score"]
    assert np.abs(found - expected).max() < 1e-5
    recorded = pd.read_parquet(runs[model] / "predictions.parquet")
    recorded = recorded[recorded["split"] == "test"]["score"]
    assert np.abs(found[alike(frame).test] - recorded).max() < 1e-5
    assert str(Path(torch.__file__).parent) not in Path("model.onnx").read_text("latin-1")
    onnx.checker.check_model("model.onnx")


def test_a_request_that_cannot_be_met_is_refused_in_one_line(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    name, taken = runs["linear"].name, tmp_path / "taken.onnx"
    taken.write_text("mine")
    for arguments, reason in (
        ([name, "pmml"], "pmml: there is no such format; choose from: onnx"),
        ([name, "onnx", "outptu=x"], "did you mean 'output'?"),
        ([name, "onnx", "tolerance=small"], "tolerance=small: expected a number"),
        ([name, "onnx", f"output={tmp_path / 'model.pb'}"], "expected a name ending in .onnx"),
        ([name, "onnx", f"output={taken}"], "is not overwritten"),
        (["nobody", "onnx"], "nobody: there is no such run"),
    ):
        assert ask(runs, *arguments) == 2
        said = capsys.readouterr()
        assert reason in said.err and said.out == "" and len(said.err.splitlines()) == 1
    assert taken.read_text() == "mine"
    monkeypatch.setattr("rarelab.predict.export.find_spec", lambda name: None)
    assert ask(runs, name, "onnx") == 2
    assert "pip install 'rarelab[onnx]'" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["model", "preprocessing"])
def test_a_graph_that_scores_differently_is_not_written(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch, part: str,
) -> None:  # fmt: skip
    if part == "model":

        def shifted(model: HistGradientBoosting) -> PlainTrees:
            return replace(model.booster, baseline=model.booster.baseline + 1e-4)

        monkeypatch.setattr(HistGradientBoosting, "_trees", shifted)
    else:
        monkeypatch.setattr(graph, "_CENTRE", (graph._CENTRE[0], (1.0, *graph._TAIL[1][1:])))
    path = tmp_path / "model.onnx"
    assert ask(runs, runs["hist_gradient_boosting"].name, "onnx", f"output={path}") == 1
    assert "above tolerance=1e-05: nothing was written" in capsys.readouterr().err
    assert not path.exists()


def test_rows_that_have_changed_cannot_check_a_graph(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    before = runs["file"].read_text()
    try:
        runs["file"].write_text("\n".join(before.splitlines()[:-9]) + "\n")
        assert ask(runs, runs["linear"].name, "onnx", f"output={tmp_path / 'm.onnx'}") == 2
    finally:
        runs["file"].write_text(before)
    assert "are not those of the run any more" in capsys.readouterr().err


def columns(n: int = 300) -> pd.DataFrame:
    draw = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "real": draw.normal(size=n),
            "ties": draw.integers(0, 4, n),
            "rare": draw.random(n) < 0.02,
            "tiny": 1e-300 * draw.random(n),
            "huge": 1e18 + 1e9 * draw.random(n),
            "gaps": np.where(draw.random(n) < 0.3, np.nan, draw.lognormal(size=n)),
            "text": draw.choice(["a", "b", None, "é ß"], n),
            "seldom": np.where(np.arange(n) < 3, "x", "y"),
        }
    )


@pytest.mark.parametrize("kept", [slice(None), slice(0, 6), slice(6, None)])
@pytest.mark.parametrize("numeric", ["quantile", "standard", "none"])
def test_the_preprocessing_as_a_graph_gives_the_same_features(numeric: Any, kept: slice) -> None:
    frame = columns().iloc[:, kept]
    fitted = Preprocessor(numeric)
    fitted.fit_transform(frame)
    rows, inputs = probes(fitted)
    assert len(rows) > 3 and rows.isna().any(axis=None)
    found = answer(graph.preprocessing_graph(fitted).SerializeToString(), inputs)
    expected = fitted.transform(rows)
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_the_normal_quantile_of_the_graph_is_scipys() -> None:
    p = np.concatenate([10.0 ** -np.arange(1, 14), np.linspace(0.001, 0.999, 999)])
    made = graph._Graph()
    made("Identity", graph._ndtri(made, "p"), name="x")
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, ["n"]) for n in "px"]
    whole = onnx.helper.make_graph(made.nodes, "ndtri", values[:1], values[1:], made.constants)
    opsets = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(whole, opset_imports=opsets, ir_version=graph.IR_VERSION)
    assert answer(model.SerializeToString(), {"p": p}) == pytest.approx(norm.ppf(p), rel=1e-13)


@pytest.mark.parametrize("present", [(0, 1, 2, 3), (1, 2), (0, 2, 3)])
def test_trees_of_several_classes_give_the_same_scores(present: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(400, 5, generator=draw)
    y = torch.tensor(present)[(x[:, 0] * 1.5 + x[:, 1]).round().long() % len(present)]
    rows = Table(x, y)
    model = HistGradientBoosting(5, 4, max_iter=4, n_iter_no_change=0, min_samples_leaf=5)
    with limited_threads(1):
        model.fit(rows, rows, seed=0)
        expected = model.scores(x).numpy()
    made = model.onnx_graph()
    made.ir_version = graph.IR_VERSION
    found = answer(made.SerializeToString(), {"features": x.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert model.kept() == {"max_iter": 4, "n_iter_no_change": 0}


def gaps_and_ties() -> Table:
    """Rows of three classes; the second feature has gaps, the third ties."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(600, 5, generator=draw)
    x[:, 1][torch.rand(600, generator=draw) < 0.3] = torch.nan
    x[:, 2] = x[:, 2].round()
    return Table(x, (x[:, 0] * 1.5 + x[:, 1].nan_to_num(2) + x[:, 2]).round().long() % 3)


def around(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows of five features: every threshold as a float32, and the float32 on either side."""
    nearest = thresholds.astype(np.float32)
    beside = [np.nextafter(nearest, np.float32(side)) for side in (-np.inf, np.inf)]
    return np.repeat(np.concatenate([nearest, *beside])[:, None], 5, axis=1)


@pytest.mark.parametrize("outputs", [1, 4])
def test_lightgbms_trees_are_exact_at_every_threshold_and_gap(outputs: int) -> None:
    rows = gaps_and_ties()
    rows = Table(rows.x, rows.y.clamp(max=max(1, outputs - 1)))  # of four classes, one is absent
    model = LightGBMLogLoss(5, outputs, num_iterations=6, min_data_in_leaf=5)
    model.begin(rows, seed=0)
    for _ in range(6):
        model.grow(lambda _: pytest.fail("its own log-loss asks for no slope"))
    model.keep(model.steps)
    trees = text_trees(model.text(), model.start.numpy())
    assert len(trees.roots) == 6 * outputs
    gaps = np.where(np.eye(5, dtype=bool)[np.arange(600) % 5], np.nan, rows.x).astype(np.float32)
    x = np.concatenate([rows.x.numpy(), gaps, around(trees.threshold)])
    made = model.onnx_graph()
    made.ir_version = graph.IR_VERSION
    found, expected = (
        answer(made.SerializeToString(), {"features": x}),
        model.scores(torch.tensor(x)),
    )
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6, atol=1e-7)
    walked = trees.decision_function(x).reshape(len(x), outputs)
    np.testing.assert_allclose(walked, expected.numpy(), rtol=1e-6, atol=1e-7)


def test_a_gap_goes_where_the_histogram_booster_sends_it() -> None:
    rows = gaps_and_ties()
    model = HistGradientBoosting(5, 3, max_iter=4, n_iter_no_change=0, min_samples_leaf=5)
    with limited_threads(1):
        model.fit(rows, rows, seed=0)
        expected = model.scores(rows.x).numpy()
    made = model.onnx_graph()
    made.ir_version = graph.IR_VERSION
    found = answer(made.SerializeToString(), {"features": rows.x.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_trees_that_never_split_are_their_leaves_and_categories_are_refused() -> None:
    head = "tree\nversion=v4\n"
    alone = text_trees(
        f"{head}\nTree=0\nnum_leaves=1\nleaf_value=0.5\n\nend of trees\n", np.ones(1)
    )
    assert alone.decision_function(np.zeros((2, 3), np.float32)).tolist() == [1.5, 1.5]
    none = text_trees(f"{head}\nend of trees\n", np.ones(2))
    assert none.value.tolist() == [0, 0] and len(none.roots) == 2
    split = "split_feature=0\nthreshold=0\ndecision_type=1\nleft_child=-1\nright_child=-2"
    with pytest.raises(RarelabError, match="a split is on categories"):
        text_trees(f"{head}\nTree=0\n{split}\nleaf_value=1 2\n\nend of trees\n", np.ones(1))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tabular_resnet", "ft_transformer", "tabm"])
def test_every_network_for_tables_can_be_exported(
    home: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture
) -> None:
    small = ["dataset.n_samples=2000", "dataset.pos_rate=0.05", "trainer.max_epochs=1"]
    run = package.train([*small, "loss=bce", f"model={model}", "tracking=none"])
    path = tmp_path / "model.onnx"
    assert main(["export", run.directory.name, "onnx", f"output={path}"]) == 0
    assert math.isfinite(answer(str(path), {"numbers": np.zeros((3, 20))}).sum())
