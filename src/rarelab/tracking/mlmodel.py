"""A run's ``model/`` as an MLflow model: the metadata that lets MLflow load and serve it.

Nothing is pickled and no code is copied: MLflow imports ``rarelab.predict.served``, which reads the
plain data beside the metadata. ``mlflow.pyfunc.log_model`` would write the same files, but first
loads the model to infer its requirements, which takes seconds.
"""

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from rarelab.tracking import wheel
from rarelab.tracking.settings import importing_mlflow
from rarelab.version import __version__

FACTS = "model.json"
LOADER = "rarelab.predict.served"

_PACKAGES = ("mlflow", "torch", "numpy", "pandas", "scikit-learn", "scipy", "pyarrow", "skops")
_ENVIRONMENT = "python_env.yaml"
_REQUIREMENTS = "requirements.txt"
_EXAMPLE = "input_example.json"
_SERVED_EXAMPLE = "serving_input_example.json"


@importing_mlflow()
def describe(folder: Path, run_id: str) -> bool:
    """Write ``MLmodel``, the requirements with this package's wheel, and an example beside
    ``model.json``; False if the run has no model that can be served."""
    from mlflow.models import Model, ModelSignature

    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    if "unavailable" in facts:
        return False
    kind = _write_example(folder, facts)
    (folder / wheel.NAME).write_bytes(wheel.wheel())
    (folder / _REQUIREMENTS).write_text("\n".join(_requirements()) + "\n", encoding="utf-8")
    python = platform.python_version()
    environment = f"python: {python}\ndependencies:\n- -r {_REQUIREMENTS}\n"
    (folder / _ENVIRONMENT).write_text(environment, encoding="utf-8")
    model = Model(
        artifact_path=folder.name,
        run_id=run_id,
        signature=ModelSignature(**_signature(facts)),
        saved_input_example_info={
            "artifact_path": _EXAMPLE,
            "serving_input_path": _SERVED_EXAMPLE,
            **kind,
        },
    )
    model.add_flavor(
        "python_function",
        loader_module=LOADER,
        data=".",
        env={"virtualenv": _ENVIRONMENT},
        python_version=python,
    )
    model.save(str(folder / "MLmodel"))
    return True


def _write_example(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write a row that the model scores; what MLflow has to know to read it."""
    if "shape" in facts["preprocessing"]:
        rows = np.zeros((1, *facts["preprocessing"]["shape"])).tolist()
        _write_json(folder / _EXAMPLE, rows)
        _write_json(folder / _SERVED_EXAMPLE, {"inputs": rows})
        return {"type": "ndarray"}
    table = {"columns": list(facts["example"]), "data": [list(facts["example"].values())]}
    _write_json(folder / _EXAMPLE, table)
    _write_json(folder / _SERVED_EXAMPLE, {"dataframe_split": table})
    return {"type": "dataframe", "pandas_orient": "split"}


def _signature(facts: dict[str, Any]) -> dict[str, Any]:
    """Columns in, scores out; with two classes, the alert budget is a parameter."""
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    # Integers are "double" too: MLflow's "long" refuses columns with missing values.
    types = {"number": "double", "code": "double", "text": "string", "date": "string"}
    if "shape" in facts["preprocessing"]:
        shape = (-1, *facts["preprocessing"]["shape"])
        inputs = Schema([TensorSpec(np.dtype(np.float32), shape)])
    else:
        kinds = facts["preprocessing"]["columns"]
        inputs = Schema([ColSpec(types[kind], name) for name, kind in kinds.items()])
    budget = ParamSchema([ParamSpec("budget", "double", None)])
    outputs = dict.fromkeys(facts["scores"], "float") | facts.get("columns", {})
    return {
        "inputs": inputs,
        "outputs": Schema([ColSpec(kind, name) for name, kind in outputs.items()]),
        "params": budget if len(facts["classes"]) == 2 else None,
    }


def _requirements() -> list[str]:
    """The installed versions, without local build tags (``+cpu``); this package from the wheel
    beside the file (pip looks for it relative to the file, and before any index)."""
    versions = {name: metadata.version(name).partition("+")[0] for name in _PACKAGES}
    own = ["--find-links .", f"rarelab=={__version__}"]
    return [*own, *(f"{name}=={v}" for name, v in versions.items())]


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
