"""What shuffling a column costs, against scikit-learn's, and as a run draws it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.inspection import permutation_importance as reference
from sklearn.linear_model import LogisticRegression
from torch import Tensor

import rarelab as package
from rarelab.data.splits import Splits, Table
from rarelab.figures import importance as figure
from rarelab.runs import importance
from rarelab.runs.importance import permutation_importance
from tables import transactions


def rows(n: int = 3000) -> tuple[Tensor, Tensor]:
    """The first feature matters most, the third not at all; the last two are one-hot levels."""
    draw = np.random.default_rng(0)
    level = draw.random(n) < 0.3
    x = np.column_stack([draw.normal(size=(n, 3)), level, ~level])
    y = 2 * x[:, 0] + x[:, 1] + 1.5 * x[:, 3] + draw.normal(size=n) > 3.5
    return torch.from_numpy(x).float(), torch.from_numpy(y).long()


def test_it_agrees_with_scikit_learns() -> None:
    x, y = rows()
    fitted = LogisticRegression().fit(x.numpy(), y.numpy())
    fitted.coef_[0, 2] = 0  # a column that the model does not use

    def scores(features: Tensor) -> Tensor:
        return torch.from_numpy(fitted.decision_function(features.numpy()))[:, None]

    found = permutation_importance(x, y, "abcde", scores, alerts=100, repeats=20)
    scoring = {"aucpr": "average_precision", "recall_at_budget": recall_in_first_100}
    expected: Any = reference(fitted, x.numpy(), y.numpy(), scoring=scoring, n_repeats=20)
    found = found.set_index("column").loc[[*"abcde"]]
    for key in scoring:
        mean, spread = expected[key].importances_mean, expected[key].importances_std
        assert found[key].to_numpy() == pytest.approx(mean, abs=0.02)
        assert found[f"{key}_sd"].to_numpy() == pytest.approx(spread, abs=0.01)
    assert not found.loc["c"].any()
    assert found.loc["a", "aucpr"] > found.loc["b", "aucpr"] > 0.02


def recall_in_first_100(fitted: LogisticRegression, x: np.ndarray, y: np.ndarray) -> float:
    return y[np.argsort(-fitted.decision_function(x))[:100]].sum() / y.sum()


def test_the_features_of_a_column_are_shuffled_together() -> None:
    x, y = rows(400)
    seen: list[Tensor] = []

    def scores(features: Tensor) -> Tensor:
        seen.append(features)
        return features[:, :1]

    permutation_importance(x, y, ["a", "b", "c", "level", "level"], scores, alerts=10)
    assert len(seen) == 1 + 4 * importance.REPEATS
    for features in seen:
        assert features[:, 3:].sum(dim=1).eq(1).all()
        assert torch.equal(features.sort(dim=0).values, x.sort(dim=0).values)
        assert int((features != x).any(dim=0).sum()) <= 2


def test_a_run_draws_it_if_asked_and_records_the_same(home: Path, tmp_path: Path) -> None:
    transactions().to_csv(tmp_path / "t.csv", index=False)
    asked = ["dataset=file", f"dataset.path={tmp_path / 't.csv'}", "dataset.target=verdict"]
    asked += ["dataset.positive_label=fraud", "dataset.drop=[id]", "model=hist_gradient_boosting"]
    asked += ["model.max_iter=30", "tracking=none"]
    plain = package.train([*asked, "tracking.importance=true", "tracking.figures=false"])
    drawn = package.train([*asked, "tracking.importance=true", "budget=0.05"])
    figures = drawn.directory / "figures"
    assert (figures / "importance.png").stat().st_size > 5_000
    table: Any = pd.read_csv(figures / "importance.csv")
    assert sorted(table["column"]) == ["age", "amount", "country", "member", "shop", "zip"]
    assert table["column"][0] == "amount" and table["aucpr"][0] > 0.1
    assert {k: drawn.metrics[k] for k in plain.metrics} == plain.metrics
    assert not (plain.directory / "figures").exists()


def test_what_would_take_long_is_left_out_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = rows(500)
    both = Table(x, y)
    names = ("a", "b", "c", "d", "e")
    splits = Splits(both, both, both, ("no", "yes"), names, "", "rows")
    monkeypatch.setattr(importance, "WORK", 10_000)
    importance.write_importance(tmp_path, splits, lambda x: x[:, :1], None)
    assert "500 rows x 5 columns x 5 are more than 10,000" in caplog.text
    assert not (tmp_path / "figures").exists()
    monkeypatch.setattr(importance, "ROWS", 300)
    monkeypatch.setattr(figure, "MOST", 3)
    importance.write_importance(tmp_path, splits, lambda x: x[:, :1], None)
    table = pd.read_csv(tmp_path / "figures" / "importance.csv")
    assert table["column"].tolist()[0] == "a" and len(table) == 5
    nameless = Splits(both, both, both, ("no", "yes"), (), "", "images")
    importance.write_importance(tmp_path, nameless, lambda x: x[:, :1], None)
    assert "the rows of images have no columns" in caplog.text
