"""CatBoost on objectives of its own, as a reference."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarelab.boosting.categories import Categories, recoded
from rarelab.errors import RarelabError, RequestError
from rarelab.models.estimator import Rows
from rarelab.models.shapes import check_input, check_sizes


class _CatBoost:
    """Everything but the choice of the objective."""

    input_ndim: ClassVar[int] = 2
    gives_log_odds: ClassVar[bool] = True

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        iterations: int = 500,
        learning_rate: float = 0.1,
        depth: int = 6,
        l2_leaf_reg: float = 3.0,
        early_stopping_round: int | None = 60,
        categories: Categories = "onehot",
        one_hot: Sequence[Sequence[int]] | None = None,
        codes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        sizes = {"in_features": in_features, "num_outputs": num_outputs, "iterations": iterations}
        check_sizes("catboost", **sizes, depth=depth)
        if early_stopping_round is not None:
            check_sizes("catboost", early_stopping_round=early_stopping_round)
        _check("learning_rate", learning_rate, learning_rate > 0, "above 0")
        _check("depth", depth, depth <= 16, "at most 16")
        _check("l2_leaf_reg", l2_leaf_reg, l2_leaf_reg >= 0, "at least 0")
        self._library = _catboost()
        self.in_features, self.num_outputs = in_features, num_outputs
        self.patience = early_stopping_round
        self._recoded = recoded(in_features, categories, one_hot, codes)
        self._options = {
            "iterations": iterations,
            "learning_rate": learning_rate,
            "depth": depth,
            "l2_leaf_reg": l2_leaf_reg,
            "logging_level": "Silent",
            "allow_writing_files": False,
        }
        self._model: Any = None

    def fit(self, train: Rows, val: Rows, seed: int) -> None:
        """Grow on train; the validation rows stop it early, at the best area under their
        precision-recall curve (of several classes, at the lowest log-loss)."""
        options = {**self._options, **self._objective(), "random_seed": seed % 2**31}
        held_out: dict[str, Any] = {}
        if self.patience is not None:
            metric = "PRAUC" if self.num_outputs == 1 else "MultiClass"
            options |= {"eval_metric": metric, "od_type": "Iter", "od_wait": self.patience}
            held_out = {"eval_set": self._pool(val, seed), "use_best_model": True}
        model = self._library.CatBoost({**options, "thread_count": torch.get_num_threads()})
        self._model = model.fit(self._pool(train, seed), **held_out)

    def scores(self, x: Tensor) -> Tensor:
        model = self._fitted("scores were")
        check_input(x, model="catboost", input_ndim=2, in_features=self.in_features)
        if not len(x):
            return torch.zeros(0, self.num_outputs)
        raw = model.predict(
            self._given(x), prediction_type="RawFormulaVal", thread_count=torch.get_num_threads()
        )
        return torch.from_numpy(np.asarray(raw, dtype=np.float32)).view(-1, self.num_outputs)

    def contributions(self, x: Tensor) -> Tensor:
        """The Shapley values of the trees [N, F], float64, for two classes, by CatBoost itself: a
        feature that is not known goes both ways at a split, by the weight of the training rows. A
        row's sum is its score less the mean score that is found so."""
        model = self._fitted("contributions were")
        check_input(x, model="catboost", input_ndim=2, in_features=self.in_features)
        if not len(x):
            return torch.zeros(0, self.in_features, dtype=torch.float64)
        found = model.get_feature_importance(
            self._library.Pool(self._given(x)),
            type="ShapValues",
            thread_count=torch.get_num_threads(),
        )
        values = torch.from_numpy(np.asarray(found, dtype=np.float64))[:, :-1]
        return values if self._recoded is None else self._recoded.spread(values)

    def state(self) -> dict[str, NDArray]:
        """CatBoost's own binary format, which holds no code, as bytes."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.cbm"
            self._fitted("its state was").save_model(str(path))
            return {"cbm": np.frombuffer(path.read_bytes(), dtype=np.uint8)}

    def load_state(self, arrays: dict[str, NDArray]) -> None:
        """Raises ValueError for a model that is not this one's."""
        try:
            model = self._library.CatBoost().load_model(blob=arrays["cbm"].tobytes())
        except self._library.CatBoostError as error:
            raise ValueError(f"CatBoost cannot read its model: {error}") from error
        features = len(model.feature_names_)
        # A model that reads more columns than it is given reads outside of its rows.
        width = self.in_features if self._recoded is None else self._recoded.width
        categories = [] if self._recoded is None else self._recoded.categories
        if features != width or model.get_cat_feature_indices() != categories:
            raise ValueError(f"the trees read {features} features, not {width}, or of other kinds")
        one = self._given(torch.zeros(1, self.in_features))
        outputs = np.size(model.predict(one, prediction_type="RawFormulaVal"))
        if outputs != self.num_outputs:
            raise ValueError(f"the trees give {outputs} scores, not {self.num_outputs}")
        self._model = model

    def kept(self) -> dict[str, Any]:
        """The parameters that grow as many trees as this fit has, without stopping early."""
        return {"iterations": self._fitted("a refit was").tree_count_, "early_stopping_round": None}

    def _pool(self, rows: Rows, seed: int) -> Any:
        weight = None if rows.sample_weight is None else _array(rows.sample_weight)
        return self._library.Pool(self._given(rows.x), _array(rows.y), weight=weight)

    def _given(self, x: Tensor) -> Any:
        """The rows [N, F] as CatBoost takes them: an array, or with categories its own columns."""
        if self._recoded is None:
            return _array(x)
        rows, first = self._recoded.rows(x), min(self._recoded.categories, default=None)
        if first is None:
            return rows
        codes = np.nan_to_num(rows[:, first:], nan=-1).astype(np.int64)
        names = np.array([b"%d" % code for code in range(-1, codes.max(initial=0) + 1)], object)
        return self._library.FeaturesData(
            num_feature_data=np.ascontiguousarray(rows[:, :first]) if first else None,
            cat_feature_data=names[codes + 1],
        )

    def _objective(self) -> dict[str, Any]:
        return {"loss_function": "Logloss" if self.num_outputs == 1 else "MultiClass"}

    def _fitted(self, what: str) -> Any:
        if self._model is None:
            raise RarelabError(f"model catboost: {what} requested before the fit")
        return self._model


@final
class CatBoost(_CatBoost):
    """CatBoost on its own log-loss, as a reference; loss, schedule and optimiser do not apply.

    in_features: F; num_outputs: 1 for two classes, else C; iterations: the most trees;
    early_stopping_round: trees without a better area under the precision-recall curve of the
    validation rows (None: never); learning_rate, depth and l2_leaf_reg as in CatBoost. Missing
    values need no imputation. Uses torch's thread count.

    categories="native": CatBoost takes columns of levels for categories of its own; one_hot and
    codes, filled in, say which (:class:`~rarelab.boosting.categories.Recoded`).

    Satisfies ``Estimator``, ``Portable``, ``Explained`` and ``Refittable``. Raises RequestError for
    values out of range, a wrong input shape or a missing CatBoost, RarelabError for scores before
    the fit.

    Source: Prokhorenkova et al., CatBoost, NeurIPS 2018.
    """


@final
class CatBoostYetiRank(_CatBoost):
    """CatBoost on its own ranking objective, as a reference.

    The rows are shuffled and cut into queries of ``rows_per_query``; the time of a tree grows with
    it. The scores are no log-odds, and row weights do not apply. The other parameters are those of
    :class:`CatBoost`.

    Raises RequestError, beyond those of :class:`CatBoost`, for more than two classes and for row
    weights.

    Source: Gulin, Kuralenok and Pavlov, Winning the transfer learning track of Yahoo!'s learning to
    rank challenge with YetiRank, JMLR W&CP 14, 2011.
    """

    gives_log_odds: ClassVar[bool] = False

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        rows_per_query: int = 200,
        iterations: int = 500,
        learning_rate: float = 0.1,
        depth: int = 6,
        l2_leaf_reg: float = 3.0,
        early_stopping_round: int | None = 60,
        categories: Categories = "onehot",
        one_hot: Sequence[Sequence[int]] | None = None,
        codes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(
            in_features,
            num_outputs,
            iterations,
            learning_rate,
            depth,
            l2_leaf_reg,
            early_stopping_round,
            categories,
            one_hot,
            codes,
        )
        _check("num_outputs", num_outputs, num_outputs == 1, "1: it ranks two classes")
        _check("rows_per_query", rows_per_query, rows_per_query >= 2, "at least 2")
        self._rows_per_query = rows_per_query

    def _pool(self, rows: Rows, seed: int) -> Any:
        if rows.sample_weight is not None:
            raise RequestError(
                "dataset.sample_weight: CatBoost weighs queries, not rows, when it ranks; drop it "
                "or use model=catboost"
            )
        order = np.random.default_rng(seed).permutation(len(rows.y))
        queries = np.arange(len(order)) // self._rows_per_query
        given = self._given(rows.x[torch.from_numpy(order)])
        return self._library.Pool(given, _array(rows.y)[order], group_id=queries)

    def _objective(self) -> dict[str, Any]:
        return {"loss_function": "YetiRank"}


def _array(values: Tensor) -> NDArray:
    return values.detach().cpu().numpy()


def _catboost() -> Any:
    try:
        import catboost
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise RequestError(
            f"model: CatBoost cannot be loaded ({reason}): pip install 'rarelab[catboost]'"
        ) from error
    return catboost


def _check(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise RequestError(f"model catboost: {name} must be {expected}, found {value!r}")
