"""The schema of ``model.json``, which is not trusted."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rarelab.data.tables.dates import Cycle, Part
from rarelab.data.tables.preprocess import Kind
from rarelab.data.tables.recipe import HighCardinality, Numeric
from rarelab.errors import RarelabError, RequestError

FACTS = "model.json"
FORMAT = 2


Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, protected_namespaces=())


class _Header(_Strict):
    format: int
    rarelab: str
    run: str


class _Texts(_Strict):
    names: list[str]
    levels: dict[str, list[str]]
    places: dict[str, list[int]]
    coded: list[str] = []


class _Dates(_Strict):
    model_config = ConfigDict(extra="forbid")

    names: list[str]
    first: dict[str, str]
    parts: dict[str, Annotated[list[Part], Field(min_length=1)]]
    cycles: dict[str, list[Cycle]] = {}


class _Hashed(_Strict):
    model_config = ConfigDict(extra="forbid")

    names: list[str]
    buckets: Annotated[int, Field(ge=1)]
    places: dict[str, list[int]]
    levels: dict[str, int]
    examples: dict[str, str]
    numbers: list[str]
    codes: list[str]


class _FreeText(_Strict):
    model_config = ConfigDict(extra="forbid")

    names: list[str]
    components: int


class _Seen(_Strict):
    model_config = ConfigDict(extra="forbid")

    rows: Annotated[int, Field(ge=1)]
    missing: dict[str, Annotated[float, Field(ge=0, le=1)]]
    ranges: dict[str, Annotated[list[Finite], Field(min_length=2, max_length=2)]]


class _Column(_Strict):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["number", "truth", "text"]
    decimal: Literal[".", ","]
    missing: list[str]


class _Reading(_Strict):
    model_config = ConfigDict(extra="forbid")

    columns: dict[str, _Column]
    sep: str | None
    encoding: str | None
    thousands: str | None
    na_values: list[str] | None


class _Preprocessing(_Strict):
    numeric: Numeric
    max_categories: int
    categorical: list[str]
    columns: Annotated[dict[str, Kind], Field(min_length=1)]
    others: list[str]
    feature_names: list[str]
    texts: _Texts
    reading: _Reading | None = None
    seen: _Seen | None = None
    high_cardinality: HighCardinality = "onehot"
    dates: _Dates | None = None
    hashed: _Hashed | None = None
    free: _FreeText | None = None


class _Arrays(_Strict):
    """Rows that are arrays: the shape of one."""

    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]


class _Curve(_Strict):
    slope: Finite
    intercept: Finite
    x: list[Finite]
    y: list[Finite]


class _Calibration(_Strict):
    method: Literal["platt", "isotonic"]
    curves: list[_Curve]


class _Decision(_Strict):
    costs: list[list[Finite | None]]  # null: what the row is worth
    threshold: float | None


class _Capacity(_Strict):
    model_config = ConfigDict(extra="forbid")

    alerts: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    per: str


class _Budget(_Strict):
    """The run's budget; how many of its validation rows may alert, and the days these span."""

    budget: Annotated[float, Field(gt=0, lt=1)] | _Capacity
    alerts: Annotated[int, Field(ge=0)]
    days: Annotated[int, Field(ge=1)] | None


class _Facts(_Header):
    data: str
    classes: Annotated[list[str], Field(min_length=2)]
    model: dict[str, Any]
    scoring: dict[str, Any]
    preprocessing: _Preprocessing | _Arrays
    example: dict[str, Any]
    scores: list[str]
    calibration: _Calibration | None = None
    decision: _Decision | None = None
    budget: _Budget | None = None
    columns: dict[str, str] = {}


def read_facts(folder: Path) -> dict[str, Any]:
    """The validated ``model.json`` of a run's model folder.

    Raises:
        RequestError: the run left no model.
        RarelabError: the file is damaged, or from a newer version.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"{folder.parent.name} left no model to score with") from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, error) from error
    _check(folder, _Header, facts)
    if facts["format"] > FORMAT:
        raise RarelabError(f"{folder} was written by a newer rarelab ({facts['rarelab']})")
    if "unavailable" in facts:
        raise RequestError(f"{facts['run']} left no model to score with: {facts['unavailable']}")
    _check(folder, _Facts, facts)
    return facts


def damaged(folder: Path, error: Exception | str) -> RarelabError:
    """The error for a damaged folder: its path and the reason."""
    reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
    return RarelabError(f"{folder} is damaged: {reason[:300] or type(error).__name__}")


def _check(folder: Path, expected: type[BaseModel], facts: Any) -> None:
    try:
        expected.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "its content"
        reason = first["msg"][:1].lower() + first["msg"][1:]
        raise damaged(folder, f"{FACTS}: {key}: {reason}") from None
