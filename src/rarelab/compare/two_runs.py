"""One run against another, over resampled test rows."""

from rarelab.compare.contrast import BETTER, NO_DIFFERENCE, WORSE
from rarelab.compare.rows import can_be_resampled, read_test_rows, resample, row_noise
from rarelab.compare.words import number, p_value, percent
from rarelab.errors import RequestError, nearest
from rarelab.metrics.bootstrap import FEWEST_POSITIVES
from rarelab.metrics.table import higher_is_better
from rarelab.records.load import Records, Run
from rarelab.records.names import labels, printable


def compare_pair(records: Records, first: Run, second: Run, metric: str, level: float) -> str:
    """Compare ``second`` with ``first`` by a paired bootstrap over test rows.

    Raises:
        RequestError: if their test rows differ or are gone, or the metric cannot be resampled.
    """
    if not can_be_resampled(metric):
        known = [f"test/{m}_at_q/0.005" for m in ("recall", "precision")] + ["test/aucpr"]
        raise RequestError(
            f"metric={metric}: two runs are compared on resampled test rows, expected test/aucpr, "
            f"test/recall_at_q/... or test/precision_at_q/...; "
            f"{nearest(metric, known)}"
        )
    rows = []
    for run in (first, second):
        path = records.file(run, "predictions.parquet")
        if path is None:
            raise RequestError(f"{run.run_id}: it has no predictions.parquet to compare")
        rows.append(read_test_rows(path))
    if rows[0].fewest_positives < FEWEST_POSITIVES:
        raise RequestError(
            f"runs: their test rows have {rows[0].fewest_positives} positives, but resampling takes"
            f" at least {FEWEST_POSITIVES}"
        )
    try:
        values = resample(rows, metric)
    except ValueError as error:
        raise RequestError(f"runs: {error}, so they cannot be paired") from error
    noise = row_noise(values[1:] - values[:1], rows[0].targets, level=level)
    names = [printable(name) for name in _names(first, second)]
    verdict = NO_DIFFERENCE
    if noise.p <= 1 - level:
        good = (noise.difference > 0) == higher_is_better(metric)
        verdict = BETTER if good else WORSE
    low, high = number(noise.low, signed=True), number(noise.high, signed=True)
    return "\n".join(
        [
            f"{names[1]} against {names[0]}: {verdict}",
            f"  {metric}  {number(values[1, 0])} against {number(values[0, 0])}: "
            f"{number(noise.difference, signed=True)} [{low}, {high}] ({percent(level)}), "
            f"{p_value(noise.p)}",
            f"  paired bootstrap over {noise.rows:,} test rows ({noise.positives:,} positive), "
            f"{noise.resamples:,} resamples",
            "  this is about these two trained models on rows like these; comparing their "
            "configurations takes several seeds",
        ]
    )


def _names(first: Run, second: Run) -> list[str]:
    told = labels([first.params, second.params])
    if len(set(told)) == 1:
        return [first.run_id[:8], second.run_id[:8]]
    return [f"{name} ({run.run_id[:8]})" for name, run in zip(told, (first, second), strict=True)]
