"""The preprocessing as an ONNX graph: from raw numbers and texts to the model's features.

It repeats :class:`~rarelab.data.tables.preprocess.Preprocessor` operation by operation in double
precision, with the fitted values as constants. Not imported by anything but the export, as it needs
``onnx``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from rarelab.data.magnitudes import BOUND
from rarelab.data.tables.preprocess import Preprocessor

IR_VERSION = 10
OPSETS = {"": 18, "ai.onnx.ml": 3}

# The rational approximations of Cephes' ndtri (Moshier 1989), highest power first.
_CENTRE = (
    (
        -59.9633501014107895, 98.0010754185999662, -56.6762857469070293, 13.9312609387279680,
        -1.23916583867381258,
    ),
    (
        1.0, 1.95448858338141760, 4.67627912898881538, 86.3602421390890591, -225.462687854119371,
        200.260212380060660, -82.0372256168333339, 15.9056225126211696, -1.18331621121330003,
    ),
)  # fmt: skip
_TAIL = (
    (
        4.05544892305962420, 31.5251094599893866, 57.1628192246421288, 44.0805073893200835,
        14.6849561928858024, 2.18663306850790268, -0.140256079171354496, -0.0350424626827848203,
        -8.57456785154685414e-4,
    ),
    (
        1.0, 15.7799883256466750, 45.3907635128879211, 41.3172038254672030, 15.0425385692907503,
        2.50464946208309416, -0.142182922854787789, -0.0380806407691578277,
        -9.33259480895457427e-4,
    ),
)  # fmt: skip


class _Graph:
    """Nodes and constants, each value under a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, kind: str, *inputs: Any, name: str = "", **attributes: Any) -> str:
        """Add a node; arrays and numbers among its inputs become double constants."""
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        output = name or f"pre/{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output

    def constant(self, value: ArrayLike, dtype: Any = np.float64) -> str:
        name = f"pre/constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name


def preprocessing_graph(fitted: Preprocessor) -> ModelProto:
    """An ONNX model from ``numbers`` float64 [N, K] (NaN = missing) and ``texts`` strings [N, T]
    to ``features`` float32 [N, F]; an input without columns is left out."""
    g, blocks, inputs = _Graph(), [], []
    if fitted.numbers:
        inputs.append(_input("numbers", TensorProto.DOUBLE, len(fitted.numbers)))
        blocks += _numbers(g, fitted.scaled.arrays())
    if fitted.texts.names:
        inputs.append(_input("texts", TensorProto.STRING, len(fitted.texts.names)))
        blocks += [_text(g, fitted, i) for i in range(len(fitted.texts.names))]
    g("Concat", *blocks, axis=1, name="features")
    features = _input("features", TensorProto.FLOAT, len(fitted.feature_names))
    graph = helper.make_graph(g.nodes, "preprocessing", inputs, [features], g.constants)
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _input(name: str, kind: int, width: int) -> Any:
    return helper.make_tensor_value_info(name, kind, ["rows", width])


def _numbers(g: _Graph, fit: Mapping[str, NDArray]) -> list[str]:
    """The scaled numbers, and the flags of the columns that had gaps in training."""
    missing = g("IsNaN", "numbers")
    x = g("Where", missing, fit["medians"], "numbers")
    if "origin" in fit:
        # In two steps, as 2^exponent itself may overflow.
        half = fit["exponent"] // 2
        x = g("Sub", x, fit["origin"])
        for power in (half, fit["exponent"] - half):
            x = g("Mul", x, np.ldexp(1.0, power))
        largest = np.finfo(np.float64).max
        x = g("Clip", x, -largest, largest)
    if (knots := fit.get("QuantileTransformer.quantiles_")) is not None:
        x = _normal_quantiles(g, x, knots, fit["QuantileTransformer.references_"])
    if (mean := fit.get("StandardScaler.mean_")) is not None:
        x = g("Div", g("Sub", x, mean), fit["StandardScaler.scale_"])
    blocks = [g("Cast", x, to=TensorProto.FLOAT)]
    if len(fit["flagged"]):
        flags = g("Gather", missing, g.constant(fit["flagged"], np.int64), axis=1)
        blocks.append(g("Cast", flags, to=TensorProto.FLOAT))
    return blocks


def _normal_quantiles(g: _Graph, x: str, knots: NDArray, references: NDArray) -> str:
    """scikit-learn's ``QuantileTransformer(output_distribution="normal")``.

    Between two knots the reference is linear; on a knot it is the mean of the first and the last
    reference of its ties; within ``BOUND`` of the outermost knots it is 0 or 1.
    """
    values, first, last = _tables(knots, references)
    size, columns = values.shape[1], knots.shape[1]
    flat = {k: g.constant(t.ravel()) for k, t in (("x", values), ("lo", first), ("hi", last))}
    # A binary search for the last knot that is not above x, in all columns at once.
    at = g.constant(size * np.arange(columns)[None, :], np.int64)
    step = size // 2
    while step:
        beyond = g("Add", at, g.constant(step, np.int64))
        at = g("Where", g("LessOrEqual", g("Gather", flat["x"], beyond), x), beyond, at)
        step //= 2
    end = g.constant(size * np.arange(1, columns + 1)[None, :] - 1, np.int64)
    after = g("Min", g("Add", at, g.constant(1, np.int64)), end)
    low, high = g("Gather", flat["x"], at), g("Gather", flat["x"], after)
    from_, to = g("Gather", flat["hi"], at), g("Gather", flat["lo"], after)
    share = g("Div", g("Sub", x, low), g("Sub", high, low))
    between = g("Add", from_, g("Mul", share, g("Sub", to, from_)))
    tied = g("Mul", g("Add", g("Gather", flat["lo"], at), from_), 0.5)
    p = g("Where", g("Equal", x, low), tied, between)
    p = g("Where", g("Greater", g("Add", x, BOUND), knots[-1]), 1.0, p)
    p = g("Where", g("Less", g("Sub", x, BOUND), knots[0]), 0.0, p)
    bound = BOUND - np.spacing(1)
    return _ndtri(g, g("Clip", p, bound, 1 - bound))


def _tables(knots: NDArray, references: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Per column, padded to a power of two: the distinct knots (padding: infinite), and the first
    and the last reference of each."""
    distinct = [np.unique(column) for column in knots.T]
    size = 2 ** math.ceil(math.log2(max(map(len, distinct)) + 1))
    values = np.full((len(distinct), size), np.inf)
    first, last = np.ones_like(values), np.ones_like(values)
    for k, (column, x) in enumerate(zip(knots.T, distinct, strict=True)):
        values[k, : len(x)] = x
        first[k, : len(x)] = references[np.searchsorted(column, x, "left")]
        last[k, : len(x)] = references[np.searchsorted(column, x, "right") - 1]
    return values, first, last


def _ndtri(g: _Graph, p: str) -> str:
    """The standard normal quantile of p in [1e-14, 1 − 1e-14] (Cephes)."""
    centred = g("Sub", p, 0.5)
    square = g("Mul", centred, centred)
    ratio = g("Mul", square, g("Div", *(_polynomial(g, square, c) for c in _CENTRE)))
    centre = g("Mul", g("Add", centred, g("Mul", centred, ratio)), math.sqrt(2 * math.pi))
    nearer = g("Min", p, g("Sub", 1.0, p))
    x = g("Sqrt", g("Mul", g("Log", nearer), -2.0))
    z = g("Div", 1.0, x)
    ratio = g("Mul", z, g("Div", *(_polynomial(g, z, c) for c in _TAIL)))
    tail = g("Sub", g("Sub", x, g("Mul", g("Log", x), z)), ratio)
    signed = g("Where", g("Less", centred, 0.0), g("Neg", tail), tail)
    return g("Where", g("Greater", nearer, math.exp(-2)), centre, signed)


def _polynomial(g: _Graph, x: str, coefficients: Sequence[float]) -> str:
    total: Any = coefficients[0]
    for c in coefficients[1:]:
        total = g("Add", g("Mul", total, x), c)
    return total


def _text(g: _Graph, fitted: Preprocessor, column: int) -> str:
    """The features of one column of texts: one-hot, or the row of a table of target encoding. An
    unseen text takes the place of rare levels, or the table's last row."""
    name = fitted.texts.names[column]
    levels, table = fitted.texts.levels[name], fitted.texts.tables.get(name)
    places = fitted.texts.places[name] if table is None else [*range(len(levels) + 1)]
    texts = g("Gather", "texts", g.constant([column], np.int64), axis=1)
    place = g(
        "LabelEncoder",
        texts,
        domain="ai.onnx.ml",
        keys_strings=levels,
        values_int64s=places[: len(levels)],
        default_int64=places[-1],
    )
    if table is not None:
        rows = g("Gather", g.constant(table, np.float32), place, axis=0)
        return g("Reshape", rows, g.constant([-1, table.shape[1]], np.int64))
    each = g.constant(np.arange(max(places) + 1)[None, :], np.int64)
    return g("Cast", g("Equal", place, each), to=TensorProto.FLOAT)
