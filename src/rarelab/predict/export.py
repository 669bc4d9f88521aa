"""``rarelab export RUN onnx``: a run's preprocessing and model as one ONNX graph, checked."""

import copy
import json
import logging
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor, nn

from rarelab.config import build
from rarelab.data.arguments import between
from rarelab.data.tables.levels import MISSING
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RarelabError, RequestError, nearest
from rarelab.files import written_whole
from rarelab.models import Exportable
from rarelab.predict.loaded import LoadedRun, load_run
from rarelab.predict.scorer import Scorer
from rarelab.predict.settings import parsed
from rarelab.quoting import names
from rarelab.records.config import recorded_config
from rarelab.records.find import fetch_record, find_run
from rarelab.streams import stream_seed
from rarelab.tracking.entry import load_entry

FORMATS = ("onnx",)
NEEDED = ("onnx", "onnxruntime", "onnxscript")
_HOW = {
    "date": "taken apart as a date (dataset.dates)",
    "hashed": "hashed (dataset.high_cardinality=hash)",
    "free": "free text (dataset.text=tfidf)",
}
"""The kinds of columns that have no form as a graph yet."""
_UNSEEN = "a level that training had not"


@dataclass(frozen=True)
class Request:
    """What to export: the run, and where to. output: a new file, None for ``<run>.onnx`` in the
    working directory. tolerance: largest difference from the scorer. allow_targets: the user's own
    modules that the model may come from."""

    run: str
    output: str | None = None
    tolerance: float = 1e-5
    allow_targets: Sequence[str] = ()


def request(run: str, form: str, settings: Sequence[str]) -> Request:
    """The request from ``KEY=VALUE`` settings.

    Raises:
        RequestError: an unknown format or key, or an invalid value.
    """
    if form not in FORMATS:
        raise RequestError(f"{form}: there is no such format; {nearest(form, FORMATS)}")
    known = {"output": str, "tolerance": _positive, "allow_targets": names}
    return Request(run, **parsed(settings, known))


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise RequestError(f"tolerance={text}: expected a number, for example 1e-5") from None
    between("tolerance", number, 0, 1)
    return number


def export(asked: Request, home: Path, uri: str | None = None) -> str:
    """Write the graph, if it scores as the run does, and return a summary.

    Raises:
        RequestError: the request is invalid, a library is missing, the model has no ONNX form, or
            the run's data set is not what it was; nothing was written.
        RarelabError: the graph's scores differ by more than the tolerance; nothing was written.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise RequestError(f"export needs {missing[0]}: pip install 'rarelab[onnx]'")
    from rarelab.predict.graph import preprocessing_graph

    loaded = load_run(asked.run, home, uri, asked.allow_targets)
    fitted = loaded.scorer.preprocessor
    if not isinstance(fitted, Preprocessor):
        raise RequestError(f"{loaded.run}: export takes runs on tables; it was trained on arrays")
    for name, kind in fitted.columns.items():
        if kind in _HOW:
            raise RequestError(
                f"{loaded.run}: export takes numbers and texts; column {name!r} is {_HOW[kind]}"
            )
    output = _output(asked.output, loaded.run)
    test_rows = _test_rows(asked, home, uri)
    network = model_graph(loaded.scorer, test_rows.shape[1])
    whole = _joined(preprocessing_graph(fitted), network, fitted, loaded)
    frame, inputs = probes(fitted)
    differences = [
        _difference(network, {"features": test_rows.numpy()}, loaded.scorer.scores_of(test_rows)),
        _difference(whole, inputs, loaded.scorer.scores(frame)),
    ]
    worst = float(np.max(differences))  # NaN, if there is one
    if not worst <= asked.tolerance:
        raise RarelabError(
            f"{loaded.run}: the graph's scores differ from the run's by up to {worst:.3g}, above"
            f" tolerance={asked.tolerance:g}: nothing was written"
        )
    try:
        with written_whole(output, replace=False) as scratch:
            scratch.write_bytes(whole.SerializeToString())
    except FileExistsError:
        raise RequestError(f"output={output}: the file already exists") from None
    return _summary(loaded.run, fitted, output, len(test_rows), len(frame), differences)


def _output(asked: str | None, run: str) -> Path:
    output = Path(asked or f"{run}.onnx").expanduser()
    if output.suffix != ".onnx":
        raise RequestError(f"output={output}: expected a name ending in .onnx")
    if not output.parent.is_dir():
        raise RequestError(f"output={output}: there is no folder {output.parent}")
    if output.exists():
        raise RequestError(f"output={output}: the file already exists and is not overwritten")
    return output


def _test_rows(asked: Request, home: Path, uri: str | None) -> Tensor:
    """The features [N, F] of the run's test rows, from its data set."""
    with tempfile.TemporaryDirectory() as scratch:
        recorded = find_run(home, asked.run)
        recorded = recorded or fetch_record(home, uri, asked.run, Path(scratch))
        cfg = OmegaConf.create(recorded_config(recorded / "config.yaml", asked.allow_targets))
        entry = load_entry(recorded)
    build.check_group(cfg, "dataset")
    splits = build.dataset(cfg).splits(stream_seed(cfg.seed, "draw"))
    digest = entry.tags.get("rarelab.data_digest") if entry else None
    if digest not in (None, splits.digest):
        raise RequestError(
            f"{asked.run}: the rows of {splits.name} are not those of the run any more, so the"
            " graph cannot be checked"
        )
    return splits.test.x


def model_graph(scorer: Scorer, in_features: int) -> Any:
    """The model as an ONNX graph from ``features`` float32 [N, F] to ``scores`` [N, C].

    Raises:
        RequestError: it has none.
    """
    model = scorer.model
    if isinstance(model, nn.Module):
        graph = _traced(model, in_features)
    elif isinstance(model, Exportable):
        graph = model.onnx_graph()
    else:
        raise RequestError(
            f"{type(model).__name__} has no ONNX form (rarelab.models.Exportable); networks,"
            " hist_gradient_boosting, lightgbm and xgboost have"
        )
    return graph


def _traced(model: nn.Module, in_features: int) -> Any:
    from rarelab.predict.graph import OPSETS

    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # it warns of operators of torchvision
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside torch
            example = (torch.zeros(2, in_features),)
            # Strict, or len(x) in a model would fix the number of rows.
            program = torch.export.export(
                copy.deepcopy(model).cpu().eval(),
                example,
                dynamic_shapes=({0: torch.export.Dim("rows")},),
                strict=True,
            )
            made = torch.onnx.export(
                program,
                example,
                input_names=["features"],
                output_names=["scores"],
                opset_version=OPSETS[""],
                dynamo=True,
                verbose=False,
            )
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RequestError(f"{type(model).__name__} has no ONNX form: {reason}") from error
    finally:
        exporter.setLevel(level)
    assert made is not None
    graph = made.model_proto
    for part in (graph.graph, *graph.graph.node):
        del part.metadata_props[:]  # they name files of this machine
    return graph


def _joined(preprocessing: Any, network: Any, fitted: Preprocessor, loaded: LoadedRun) -> Any:
    """One graph, with what goes in and comes out as metadata."""
    from onnx import compose, helper

    network.ir_version = preprocessing.ir_version
    for opset in preprocessing.opset_import:
        if opset.domain not in [own.domain for own in network.opset_import]:
            network.opset_import.append(opset)
    whole = compose.merge_models(preprocessing, network, io_map=[("features", "features")])
    facts = {
        "rarelab.run": loaded.run,
        "rarelab.classes": json.dumps(loaded.classes),
        "rarelab.numbers": json.dumps(fitted.numbers),
        "rarelab.texts": json.dumps(fitted.texts.names),
    }
    helper.set_model_props(whole, facts)
    return whole


def probes(fitted: Preprocessor) -> tuple[pd.DataFrame, dict[str, NDArray]]:
    """Made-up raw rows, as a frame and as the graph's inputs: in every column each fitted knot, a
    point between two, points beyond the outermost, a gap; each level and an unseen one."""
    columns: dict[str, list[Any]] = {}
    if fitted.numbers:
        at = _anchors(fitted)
        beyond = (at[:1] - 1 - np.ptp(at, axis=0), at[-1:] + 1 + np.ptp(at, axis=0))
        numbers = np.concatenate(
            [at, (at[1:] + at[:-1]) / 2, *beyond, np.full_like(at[:1], np.nan)]
        )
        columns |= dict(zip(fitted.numbers, numbers.T.tolist(), strict=True))
    for name in fitted.texts.names:
        columns[name] = [*fitted.texts.levels[name], _UNSEEN]
    rows = max(map(len, columns.values()))
    draw = np.random.default_rng(0)
    mixed = {
        name: draw.permutation(np.resize(np.array(values, dtype=object), rows))
        for name, values in columns.items()
    }
    inputs: dict[str, NDArray] = {}
    if fitted.numbers:
        numbers = np.stack([mixed[name] for name in fitted.numbers], axis=1)
        inputs["numbers"] = numbers.astype(np.float64)
    if fitted.texts.names:
        inputs["texts"] = np.stack([mixed[name] for name in fitted.texts.names], axis=1)
    frame = pd.DataFrame(inputs.get("numbers"), columns=fitted.numbers or None, index=range(rows))
    for name in fitted.texts.names:
        frame[name] = pd.Series(mixed[name], dtype=object).replace({MISSING: None})
    return frame, inputs


def _anchors(fitted: Preprocessor) -> NDArray[np.float64]:
    """Raw values [A, K], sorted: the quantiles' knots, else a grid around the mean or median."""
    fit = fitted.scaled.arrays()
    at = fit.get("QuantileTransformer.quantiles_")
    if at is None:
        centre = fit.get("StandardScaler.mean_", fit["medians"])
        at = centre + np.linspace(-4, 4, 65)[:, None] * fit.get("StandardScaler.scale_", 1.0)
    if "origin" in fit:
        at = np.ldexp(at, -fit["exponent"]) + fit["origin"]
    return at


def _difference(graph: Any, inputs: dict[str, NDArray], expected: Tensor) -> float:
    """The largest difference of the graph's scores, relative where scores are above 1."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    scores: Any = session.run(["scores"], inputs)[0]
    right = expected.numpy().astype(np.float64)
    return float((np.abs(scores - right) / np.maximum(1.0, np.abs(right))).max())


def _summary(
    run: str,
    fitted: Preprocessor,
    output: Path,
    rows: int,
    probed: int,
    differences: Sequence[float],
) -> str:
    inputs = [f"numbers float64 [rows, {len(fitted.numbers)}]"] if fitted.numbers else []
    inputs += [f"texts string [rows, {len(fitted.texts.names)}]"] if fitted.texts.names else []
    return "\n".join(
        [
            f"exported {run}: {output}",
            f"  takes {' and '.join(inputs)}, with the names of the columns in its metadata",
            f"  on the run's {rows:,} test rows its scores differ by at most {differences[0]:.3g},",
            f"  with the preprocessing, on {probed:,} made-up rows (knots, gaps, levels), by"
            f" {differences[1]:.3g}",
        ]
    )
