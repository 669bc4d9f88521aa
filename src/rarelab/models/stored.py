"""A fitted scikit-learn classifier as bytes without pickle, in the format of skops.

skops restores attributes of the classes it trusts and calls nothing that a file names, but it does
not look at the values, and compiled code that follows positions from a file would read or write
outside its arrays. So only estimators are stored whose scoring is plain array arithmetic, or whose
positions are checked here: trees and support vector machines.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rarelab.errors import RarelabError

_ESTIMATORS = frozenset(
    {
        *("AdaBoostClassifier", "BaggingClassifier", "BernoulliNB", "CalibratedClassifierCV"),
        *("CategoricalNB", "ComplementNB", "DecisionTreeClassifier", "DummyClassifier"),
        *("ExtraTreeClassifier", "ExtraTreesClassifier", "GaussianNB", "IsotonicRegression"),
        *("HistGradientBoostingClassifier", "LinearDiscriminantAnalysis", "LinearSVC"),
        *("LogisticRegression", "LogisticRegressionCV", "MLPClassifier", "MultinomialNB"),
        *("NearestCentroid", "NuSVC", "OneVsOneClassifier", "OneVsRestClassifier"),
        *("PassiveAggressiveClassifier", "Perceptron", "QuadraticDiscriminantAnalysis"),
        *("RandomForestClassifier", "RidgeClassifier", "RidgeClassifierCV", "SGDClassifier"),
        *("SVC", "StackingClassifier", "VotingClassifier", "_BinMapper", "_SigmoidCalibration"),
        *(
            "LabelBinarizer",
            "LabelEncoder",
            "MinMaxScaler",
            "PCA",
            "Pipeline",
            "RobustScaler",
            "SimpleImputer",
            "StandardScaler",
        ),
    }
)
"""scikit-learn's estimators that can be stored, and what they hold or are combined with."""

_TREE = "sklearn.tree._tree.Tree"
_BOOSTED = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
_TRUSTED = frozenset(
    {
        *(_TREE, _BOOSTED, "sklearn.utils._bunch.Bunch", "sklearn.multiclass._ConstantPredictor"),
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    }
)
"""Classes trusted besides skops' own: plain Python whose methods only compute, and trees."""


def stored(classifier: Any) -> NDArray[np.uint8]:
    """The fitted classifier as bytes.

    Raises:
        RarelabError: it holds something that only pickle could store.
    """
    import skops.io

    try:
        _check(classifier)
        data = skops.io.dumps(classifier)
        _trusted(data, type(classifier))
    except Exception as error:  # whatever skops raises for the state of a class it does not know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RarelabError(f"{type(classifier).__name__} is not stored: {reason}") from error
    return np.frombuffer(data, dtype=np.uint8)


def restored(data: NDArray[np.uint8], expected: type) -> Any:
    """The classifier from :func:`stored`, of the class that the model's configuration names.

    Raises:
        ValueError: it is of another class, holds something that is not trusted, or a tree or a
            support vector machine in it points outside its arrays.
    """
    import skops.io

    raw = data.tobytes()
    found = skops.io.loads(raw, trusted=_trusted(raw, expected))
    if type(found) is not expected:
        raise ValueError(f"it holds a {type(found).__name__}, expected a {expected.__name__}")
    _check(found)
    return found


def _trusted(data: bytes, expected: type) -> list[str]:
    """The classes to trust for this file besides skops' own; ValueError if it names another."""
    import skops.io

    # A class of the user's own is here because they trust its module (allow_targets).
    package = expected.__module__.partition(".")[0]
    own = () if package == "sklearn" else (f"{package}.",)
    asked = skops.io.get_untrusted_types(data=data)
    for name in asked:
        if name not in _TRUSTED and not name.startswith(own):
            raise ValueError(f"it holds a {name}, which only pickle could store")
    return asked


def _check(classifier: Any) -> None:
    for part in _parts(classifier, set()):
        kind = type(part)
        if kind.__module__.startswith("scipy.sparse"):
            raise ValueError("it holds a sparse matrix")
        if kind.__module__.startswith("sklearn.") and hasattr(part, "get_params"):
            if kind.__name__ not in _ESTIMATORS:
                raise ValueError(
                    f"scoring with a {kind.__name__} read from a file is not known to be safe"
                )
            _check_trees(part)
        if hasattr(part, "_n_support"):
            _check_support_vectors(part)


def _parts(value: Any, seen: set[int]) -> Iterator[Any]:
    """Every object below a value, itself included, each once."""
    if isinstance(value, str | bytes | int | float | None) or id(value) in seen:
        return
    seen.add(id(value))
    yield value
    inside: list[Any] = list(vars(value).values()) if hasattr(value, "__dict__") else []
    if isinstance(value, dict):
        inside += value.values()
    elif isinstance(value, list | tuple | set):
        inside += value
    elif isinstance(value, np.ndarray) and value.dtype == object:
        inside += value.ravel().tolist()
    for part in inside:
        yield from _parts(part, seen)


def _check_trees(owner: Any) -> None:
    """The trees that an estimator walks itself split by its own columns, those that it checks
    its input against."""
    for tree in [owner.tree_] if hasattr(owner, "tree_") else []:
        nodes = tree.__getstate__()["nodes"]
        inner = nodes["left_child"] != -1
        children = [nodes["left_child"], nodes["right_child"]]
        _check_tree(inner, children, nodes["feature"], owner.n_features_in_)
    for tree in [tree for row in getattr(owner, "_predictors", []) for tree in row]:
        inner = tree.nodes["is_leaf"] == 0
        children = [tree.nodes["left"], tree.nodes["right"]]
        if tree.nodes["is_categorical"].any() or owner._bin_mapper.is_categorical_.any():
            raise ValueError("its trees split by categories")
        _check_tree(inner, children, tree.nodes["feature_idx"], owner.n_features_in_)
    for tree in getattr(owner, "estimators_", []):
        shares = hasattr(tree, "tree_") and not hasattr(owner, "estimators_features_")
        if shares and tree.n_features_in_ != owner.n_features_in_:
            raise ValueError("a tree was fitted on other columns than its forest")


def _check_tree(inner: NDArray, children: list[NDArray], feature: NDArray, columns: int) -> None:
    """A child stands behind its parent, so no walk goes in a circle or leaves the nodes."""
    place = np.arange(len(inner))[inner]
    behind = [child[inner].astype(np.int64) for child in children]
    if not len(inner) or not all(((c > place) & (c < len(inner))).all() for c in behind):
        raise ValueError("a tree points outside its nodes")
    used = feature[inner].astype(np.int64)
    if not ((used >= 0) & (used < columns)).all():
        raise ValueError("a tree splits by a column that does not exist")


def _check_support_vectors(machine: Any) -> None:
    rows, classes = len(machine.support_vectors_), len(machine.classes_)
    pairs = classes * (classes - 1) // 2
    if not (
        machine.support_vectors_.shape == (rows, machine.n_features_in_)
        and machine.support_.shape == (rows,)
        and machine._n_support.shape == (classes,)
        and bool((machine._n_support >= 0).all())
        and int(machine._n_support.sum()) == rows
        and machine._dual_coef_.shape == (classes - 1, rows)
        and machine._intercept_.shape == (pairs,)
        and all(len(p) in (0, pairs) for p in (machine._probA, machine._probB))
    ):
        raise ValueError("the arrays of a support vector machine do not match")
