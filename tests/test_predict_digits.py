"""Numbers are written as pandas writes them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from rarelab.predict.digits import as_texts


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [0.0, 3.0, 8.0, 35.0])
@pytest.mark.parametrize("separator", [",", "\t"])
def test_numbers_are_written_as_pandas_writes_them(
    kind: Any, spread: float, separator: str
) -> None:
    draw = np.random.default_rng(int(spread))
    x = (draw.normal(size=20_000) * 10.0 ** draw.uniform(-spread, spread, 20_000)).astype(kind)
    edges = [0, -0.0, 1, -7, 1e-4, 9.9999e-5, 1e5, 99999.99, 1e15, 1e16, np.inf, -np.inf, np.nan]
    x[: len(edges)] = edges
    x[1000:1100] = np.round(x[1000:1100], 2)
    table = pd.DataFrame({"n": np.arange(len(x)), "x": x, "t": "a"}, index=np.arange(len(x)) + 5)
    expected = table.to_csv(index=False, sep=separator)
    assert as_texts(table).to_csv(index=False, sep=separator) == expected
    alone = table[["x"]]
    assert as_texts(alone).to_csv(index=False) == alone.to_csv(index=False)


def test_a_table_without_such_numbers_is_as_it_was() -> None:
    table = pd.DataFrame({"n": [1, 2], "b": pd.array([True, None], dtype="boolean")})
    pd.testing.assert_frame_equal(as_texts(table), table)
    assert as_texts(pd.DataFrame({"x": pd.Series(dtype=float)})).to_csv(index=False) == "x\n"
