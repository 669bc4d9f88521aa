"""The registry of recorded metrics: how each is computed, which way is better, where it is shown.

A new metric is one function and one row of `TABLE`. :mod:`rarelab.metrics.recorded` computes the
rows that have a function, the comparison looks up which way is better, and the run's and sweep's
tables, the dashboard and the ledger look up the keys that they show.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from rarelab.errors import RequestError, nearest
from rarelab.metrics import exact
from rarelab.metrics import tie_groups as ties

LEVELS = (0.001, 0.005, 0.01, 0.05)
AUCPR = "val/aucpr"
"""Chooses the epoch unless another metric does, and decides between equal values of that one."""
VALUE_LEVEL = 0.005
"""The level at which value-weighted recall is recorded for validation, and has an interval if there
is no budget."""
RECALL, FPR = 0.8, 0.01
"""The levels at which ``precision_at_recall`` and ``pauc_at_fpr`` are recorded."""


class Place(Enum):
    """Where a metric can be shown."""

    RUN = "the table at the end of a run"
    SWEEP = "the table at the end of a sweep"
    COLUMN = "a column of the dashboard"
    CHART = "a chart of the dashboard"
    LEDGER = "the CSV of a committed study"


Shown = Mapping[Place, tuple[float, ...]]
Ranking = Callable[[ties.TieGroups], float]


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    Args:
        key: as recorded; a metric with levels is recorded as ``key/level``.
        higher: whether higher is better; None if neither is.
        share: whether every value lies in [0, 1].
        ranking: computes it from the tie groups of one class (and the level, if it has levels).
        probability: computes it from probabilities [N] and positives [N] of one class.
        valued: whether it is about the positives' amounts: computed from tie groups of amounts
            (:func:`rarelab.metrics.value.valued_groups`), and recorded where there are amounts.
        levels: those at which it is recorded.
        any_level: whether it is recorded, and shown, at the level that a run chose instead.
        at_budget: whether it is recorded, and shown, only if a run has a budget; ``ranking`` then
            takes the number of alerts.
        shown: where it is shown, and at which levels.
        label: its name in the run's table.
        margin: a difference that seldom matters, if there is a usual one.
    """

    key: str
    higher: bool | None
    share: bool = False
    ranking: Callable[..., float] | None = None
    probability: Callable[..., float] | None = None
    levels: tuple[float, ...] = ()
    any_level: bool = False
    shown: Shown = field(default_factory=dict)
    label: str = ""
    margin: float | None = None
    at_budget: bool = False
    valued: bool = False

    @property
    def name(self) -> str:
        """The key without the split."""
        return self.key.partition("/")[2]

    def keys(self, levels: tuple[float, ...]) -> list[str]:
        leveled = self.levels or self.any_level
        return [f"{self.key}/{level}" for level in levels] if leveled else [self.key]


def _in(*places: Place) -> Shown:
    return dict.fromkeys(places, ())


RUN, SWEEP, COLUMN, CHART, LEDGER = Place
HIGHER, LOWER, NEITHER = True, False, None
SHARE = True
AUCPR_MARGIN = 0.01
"""The habit of the literature (Corani and Benavoli 2017). A recall has no usual margin: at a small
budget a perfect one may be below 0.1."""

# Each place shows its metrics in the order of the rows.
TABLE = (
    Metric(
        "best/val_aucpr",
        HIGHER,
        SHARE,
        shown=_in(SWEEP, COLUMN, LEDGER),
        margin=AUCPR_MARGIN,
    ),
    Metric("best/val_recall_at_q", HIGHER, SHARE, any_level=True, shown=_in(SWEEP, LEDGER)),
    Metric("best/val_recall_at_budget", HIGHER, SHARE, shown=_in(SWEEP, LEDGER), at_budget=True),
    Metric("best/val_precision_at_budget", HIGHER, SHARE, at_budget=True),
    Metric("best/val_alerts_at_budget", NEITHER, at_budget=True),
    Metric("best/val_weighted_aucpr", HIGHER, SHARE, margin=AUCPR_MARGIN),
    Metric("best/val_value_recall_at_q", HIGHER, SHARE, levels=(VALUE_LEVEL,), valued=True),
    Metric("best/val_value_recall_at_budget", HIGHER, SHARE, at_budget=True, valued=True),
    Metric("best/warmup_val_aucpr", HIGHER, SHARE, shown=_in(LEDGER)),
    Metric(
        AUCPR,
        HIGHER,
        SHARE,
        ranking=ties.average_precision,
        shown=_in(CHART),
        margin=AUCPR_MARGIN,
    ),
    Metric("val/recall_at_q", HIGHER, SHARE, ranking=ties.recall_in_top, levels=(0.005,)),
    Metric("val/recall_at_budget", HIGHER, SHARE, ranking=ties.recall_in_first, at_budget=True),
    Metric(
        "test/aucpr",
        HIGHER,
        SHARE,
        ranking=ties.average_precision,
        shown=_in(RUN, SWEEP, COLUMN, LEDGER),
        label="AUCPR",
        margin=AUCPR_MARGIN,
    ),
    Metric(
        "test/recall_at_budget",
        HIGHER,
        SHARE,
        ranking=ties.recall_in_first,
        shown=_in(SWEEP, COLUMN, LEDGER),
        at_budget=True,
    ),
    Metric(
        "test/precision_at_budget",
        HIGHER,
        SHARE,
        ranking=ties.precision_in_first,
        shown=_in(COLUMN),
        at_budget=True,
    ),
    Metric(
        "test/alerts_at_budget",
        NEITHER,
        ranking=ties.alerts_in_first,
        shown=_in(LEDGER),
        at_budget=True,
    ),
    Metric("test/aucpr_lo", HIGHER, SHARE, shown=_in(COLUMN, LEDGER)),
    Metric("test/aucpr_hi", HIGHER, SHARE, shown=_in(COLUMN, LEDGER)),
    Metric(
        "test/recall_at_q",
        HIGHER,
        SHARE,
        ranking=ties.recall_in_top,
        levels=LEVELS,
        shown={RUN: LEVELS, SWEEP: (0.005,), COLUMN: (0.005, 0.01), LEDGER: LEVELS},
        label="recall",
    ),
    Metric(
        "test/value_recall_at_q",
        HIGHER,
        SHARE,
        ranking=ties.recall_in_top,
        valued=True,
        levels=LEVELS,
        shown={RUN: LEVELS, SWEEP: (0.005,), COLUMN: (0.005,), LEDGER: LEVELS},
        label="value",
    ),
    Metric("test/value_recall_at_q_lo", HIGHER, SHARE, valued=True, levels=(VALUE_LEVEL,)),
    Metric("test/value_recall_at_q_hi", HIGHER, SHARE, valued=True, levels=(VALUE_LEVEL,)),
    Metric(
        "test/value_recall_at_budget",
        HIGHER,
        SHARE,
        ranking=ties.recall_in_first,
        shown=_in(SWEEP, COLUMN, LEDGER),
        at_budget=True,
        valued=True,
    ),
    Metric("test/value_recall_at_budget_lo", HIGHER, SHARE, at_budget=True, valued=True),
    Metric("test/value_recall_at_budget_hi", HIGHER, SHARE, at_budget=True, valued=True),
    Metric("test/amount_per_row", NEITHER, valued=True, shown=_in(LEDGER)),
    # Of several classes only, since for two it would be test/aucpr.
    Metric("test/softmax_aucpr", HIGHER, SHARE, shown=_in(LEDGER), margin=AUCPR_MARGIN),
    # Not in the ledger: it follows from recall and prevalence.
    Metric(
        "test/precision_at_q",
        HIGHER,
        SHARE,
        ranking=ties.precision_in_top,
        levels=LEVELS,
        shown={RUN: LEVELS, COLUMN: (0.005,)},
        label="precision",
    ),
    Metric(
        "test/recall_at_fpr",
        HIGHER,
        SHARE,
        ranking=ties.recall_at_fpr,
        levels=LEVELS,
        shown={LEDGER: LEVELS},
    ),
    Metric(
        "test/auroc",
        HIGHER,
        SHARE,
        ranking=ties.auroc,
        shown=_in(RUN, COLUMN, LEDGER),
        label="AUROC",
    ),
    Metric("test/prevalence", NEITHER, SHARE, ranking=ties.prevalence, shown=_in(LEDGER)),
    Metric(
        "test/precision_at_recall",
        HIGHER,
        SHARE,
        ranking=ties.precision_at_recall,
        levels=(RECALL,),
        shown={LEDGER: (RECALL,)},
    ),
    Metric(
        "test/pauc_at_fpr",
        HIGHER,
        SHARE,
        ranking=ties.partial_auroc,
        levels=(FPR,),
        shown={LEDGER: (FPR,)},
    ),
    Metric(
        "test/brier",
        LOWER,
        SHARE,
        probability=exact.brier,
        shown=_in(LEDGER),
        label="Brier",
    ),
    Metric(
        "test/ece",
        LOWER,
        SHARE,
        probability=exact.expected_calibration_error,
        shown=_in(LEDGER),
        label="ECE",
    ),
    Metric("val/threshold/precision", HIGHER, SHARE),
    Metric("val/threshold/recall", HIGHER, SHARE),
    Metric("test/threshold/precision", HIGHER, SHARE, shown=_in(LEDGER)),
    Metric("test/threshold/recall", HIGHER, SHARE, shown=_in(LEDGER)),
    Metric("test/threshold/alerts", NEITHER, shown=_in(LEDGER)),
    Metric("test/expected_cost", LOWER, shown=_in(RUN, LEDGER), label="cost"),
    Metric("curve/recall_at_q", HIGHER, SHARE, shown=_in(CHART)),
    Metric("curve/value_recall_at_q", HIGHER, SHARE, valued=True, shown=_in(CHART)),
    Metric("curve/precision_at_recall", HIGHER, SHARE, shown=_in(CHART)),
    Metric("train/loss", LOWER, shown=_in(CHART)),
    Metric("train/ap_weight", NEITHER, SHARE, shown=_in(CHART)),
    Metric("train/temperature", NEITHER, shown=_in(CHART)),
    Metric("train/zero_grad_frac", LOWER, SHARE, shown=_in(LEDGER)),
    Metric("train/no_positive_batch_frac", LOWER, SHARE, shown=_in(LEDGER)),
    Metric("train/no_positive_pool_frac", LOWER, SHARE, shown=_in(LEDGER)),
    Metric("best/epoch", NEITHER, shown=_in(COLUMN, LEDGER)),
)

_SWEPT = Metric("hp", NEITHER)
_OTHER_VIEW = re.compile(r"^test/(calibrated|weighted|class/[^/]+)/")
_CLASS = re.compile(r"test/class/[^/]+/")


def find(key: str) -> Metric | None:
    """The row of a recorded key, at any level; None if it is not in the table.

    ``test/calibrated/...`` is ``test/...`` with calibrated probabilities, ``test/weighted/...`` of
    weighted rows, ``test/class/<name>/...`` of one class; ``hp/...`` are swept numbers.
    """
    if key.startswith("hp/"):
        return _SWEPT
    key = _OTHER_VIEW.sub("test/", key)
    stem, _, level = key.rpartition("/")
    for row in TABLE:
        leveled = row.levels or row.any_level
        if leveled and row.key == stem and is_number(level):
            return row
        if row.key == key and not leveled:
            return row
    return None


def higher_is_better(key: str) -> bool:
    """Whether higher is better; True for keys that are not in the table.

    Raises:
        RequestError: neither direction is better.
    """
    row = find(key)
    if row is None:
        return True
    if row.higher is None:
        known = [k for other in TABLE if other.higher is not None for k in other.keys(other.levels)]
        raise RequestError(
            f"metric={key}: neither higher nor lower is better, so it cannot be compared; "
            f"{nearest(key, known)}"
        )
    return row.higher


def is_share(key: str) -> bool:
    """Whether every value lies in [0, 1]; False for keys that are not in the table."""
    row = find(key)
    return row is not None and row.share


def usual_margin(key: str) -> float | None:
    """A difference that seldom matters, in the metric's units; None where there is no usual one."""
    row = find(key)
    return row.margin if row is not None else None


def shown(place: Place, recorded: Iterable[str] = ()) -> list[str]:
    """The keys shown at a place, in order; of a metric at any level, at the budget or of amounts,
    those among ``recorded``."""
    chosen = sorted(set(recorded))
    found: list[str] = []
    for row in (row for row in TABLE if place in row.shown):
        keys = row.keys(row.shown[place])
        if row.any_level:
            found += [key for key in chosen if find(key) is row]
        else:
            found += [key for key in keys if key in chosen or not (row.at_budget or row.valued)]
    return found


def in_ledger(key: str) -> bool:
    """Whether a study's CSV keeps it: also results not in the table, but no single classes."""
    row = find(key)
    if row is None:
        return key.startswith(("best/", "test/"))
    return LEDGER in row.shown and not key.startswith("test/class/")


def is_at_budget(key: str) -> bool:
    """Whether its value depends on the run's budget."""
    row = find(key)
    return row is not None and row.at_budget


def is_valued(key: str) -> bool:
    """Whether it is a metric of the positives' amounts."""
    row = find(key)
    return row is not None and row.valued


def class_view(key: str) -> str:
    """``test/class/<name>/`` if the key starts so, else nothing."""
    found = _CLASS.match(key)
    return found[0] if found else ""


def best_key(key: str) -> str:
    """Where the value of a validation metric at the chosen epoch is recorded:
    ``best/val_recall_at_q/0.01`` of ``val/recall_at_q/0.01``."""
    return f"best/{key.replace('/', '_', 1)}"


def errors() -> Iterator[tuple[str, Callable[..., float]]]:
    """Name and function of each metric computed from the probabilities of the test rows."""
    return ((row.name, row.probability) for row in TABLE if row.probability)


def is_number(text: str) -> bool:
    """Whether the end of a key is a level."""
    try:
        float(text)
    except ValueError:
        return False
    return True
