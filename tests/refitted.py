"""One small table and a run per model on it, for the tests of what is made of a finished run."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import rarelab as package
from rarelab.data.tables import divide
from tables import transactions

TRAINED = {
    "linear": [],
    "mlp": [],
    "tabm": ["model.k=3", "model.d_block=16"],
    "hist_gradient_boosting": ["model.n_iter_no_change=3"],
}
QUICK = [
    *("trainer.max_epochs=3", "trainer.select=any", "trainer.eval_batch_size=100"),
    *("optimizer.lr=0.02", "loss=bce", "calibration=platt", "tracking.figures=false"),
]


def trained(folder: Path, *models: str) -> dict[str, Path]:
    """Train the models; their folders, the table as ``file``, and the records as ``home``."""
    path, home = folder / "transactions.csv", folder / "home"
    transactions().to_csv(path, index=False)
    request = ["dataset=file", f"dataset.path='{path}'", "dataset.target=verdict"]
    request += ["dataset.positive_label=fraud", "dataset.drop=[id]", "dataset.categorical=[shop]"]
    request += [f"paths.home='{home}'", *QUICK]
    runs = {
        model: package.train([*request, f"model={model}", *TRAINED.get(model, [])]).directory
        for model in models
    }
    return {"file": path, "home": home, **runs}


class Rows(NamedTuple):
    """Row numbers of the three splits."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


def alike(frame: pd.DataFrame) -> Rows:
    """The rows of the table as the runs split them."""
    return Rows(*divide.stratified((frame["verdict"] == "fraud").to_numpy().astype(int), seed=0))


def blocks() -> list[str]:
    """The Python examples of docs/python.md."""
    page = (Path(__file__).parent.parent / "docs" / "python.md").read_text("utf-8")
    return re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
