"""A column of lists of numbers, as embeddings are stored: one feature per place, served as such."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import rarelab
from rarelab.cli import main
from rarelab.data.file import TableFile
from rarelab.errors import RequestError

pytestmark = pytest.mark.as_users_do
WIDTH = 12


def written(path: Path, kind: pa.DataType, rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [N, WIDTH] of which the eleventh tells the label, some missing, and the labels."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(rows, WIDTH)).astype(np.float32)
    y = (vectors[:, 10] + draw.normal(size=rows) > 2).astype(int)
    if not pa.types.is_fixed_size_list(kind):  # of which Arrow cannot read back missing ones
        vectors[::50] = np.nan
    lists = [None if np.isnan(v[0]) else v.tolist() for v in vectors]
    table = {"x": pa.array(draw.random(rows)), "emb": pa.array(lists, kind), "y": pa.array(y)}
    parquet.write_table(pa.table(table), path)
    return vectors, y


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), WIDTH)]
)
def test_each_place_is_a_feature(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "t.parquet"
    vectors, _ = written(path, kind)
    splits = TableFile(str(path), target="y", numeric="none").splits(0)
    names = [f"emb[{i}]" for i in range(WIDTH)]
    flags = [f"missing({name})" for name in names if np.isnan(vectors).any()]
    assert splits.features == ("x", *names, *flags)
    for _, part in splits.tables():
        assert part.origin is not None
        right = vectors[part.origin["row"]]
        found = part.x.numpy()[:, 1 : 1 + WIDTH]
        assert np.array_equal(found[~np.isnan(right)], right[~np.isnan(right)])
    left = TableFile(str(path), target="y", numeric="none", drop=["emb"]).splits(0)
    assert left.features == ("x",)


def test_a_run_on_vectors_serves_them_in_pieces(tmp_path: Path, capsys, monkeypatch) -> None:
    path, home = tmp_path / "t.parquet", tmp_path / "home"
    written(path, pa.list_(pa.float32()))
    asked = ["dataset=file", f"dataset.path='{path}'", "dataset.target=y", "model=lightgbm"]
    asked += ["loss=bce", "model.num_iterations=20", f"paths.home={home}"]
    done = rarelab.train([*asked, "tracking=none", "tracking.figures=false"])
    assert done.metrics["test/auroc"] > 0.7
    kept = pd.read_parquet(done.directory / "predictions.parquet")
    test = kept[kept["split"] == "test"]
    new = parquet.read_table(path).take(pa.array(test["row"])).drop_columns(["y"])
    parquet.write_table(new, tmp_path / "new.parquet")
    monkeypatch.setattr("rarelab.predict.command._rows_of_a_piece", lambda *_: 40)
    scored = ["predict", "--home", str(home), done.directory.name, str(tmp_path / "new.parquet")]
    output = tmp_path / "scores.csv"
    assert main([*scored, f"output={output}"]) == 0
    assert pd.read_csv(output)["score"].to_numpy() == pytest.approx(test["score"], rel=1e-6)
    whole = rarelab.load(done.directory).score(tmp_path / "new.parquet")["score"]
    assert whole.to_numpy() == pytest.approx(test["score"], rel=1e-6)
    short = [[0.5] * 3] * len(new)
    parquet.write_table(new.set_column(1, "emb", pa.array(short)), tmp_path / "new.parquet")
    capsys.readouterr()
    assert main([*scored, f"output={tmp_path / 'other.csv'}"]) == 2
    said = capsys.readouterr().err
    assert "column 'emb' holds lists of 3 numbers: expected 12, as in training" in said


def test_lists_of_several_lengths_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    lists = pa.array([[1.0] * (2 + i % 4) for i in range(100)])
    parquet.write_table(pa.table({"emb": lists, "y": pa.array([0, 1] * 50)}), path)
    with pytest.raises(RequestError) as error:
        TableFile(str(path), target="y").splits(0)
    assert str(error.value) == (
        "column 'emb' holds lists of 2 and 5 numbers: expected one length;"
        " dataset.drop='[emb]' leaves it out"
    )
