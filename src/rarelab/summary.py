"""The table that a run ends with."""

from rarelab.data.splits import Splits

QUANTILES = ("0.001", "0.005", "0.01", "0.05")


def test_table(metrics: dict[str, float], splits: Splits) -> str:
    """Test AUCPR with its bootstrap interval and the chance level, AUROC, and the alert budgets.

    With a calibration its errors beside the raw ones, with costs their mean.
    """
    rows = int((splits.test.y >= 0).sum())
    chance = metrics["test/prevalence"]
    interval = f"[{metrics['test/aucpr_lo']:.4f}, {metrics['test/aucpr_hi']:.4f}]"
    rest = []
    if "test/calibrated/brier" in metrics:
        rest.append(f"  calibrated {_errors(metrics, 'test/calibrated')}")
        rest.append(f"  as scored  {_errors(metrics, 'test')}")
    if "test/expected_cost" in metrics:
        rest.append(f"  cost       {metrics['test/expected_cost']:.6g} a row")
    header = "".join(f"{100 * float(q):>8g} %" for q in QUANTILES)
    return "\n".join(
        [
            f"test: {splits.name}, {rows:,} rows, {_positives(splits)}",
            f"  AUCPR      {metrics['test/aucpr']:.4f}  {interval} 95 % over test rows;"
            f"  chance {chance:.4f}",
            f"  AUROC      {metrics['test/auroc']:.4f}",
            f"  at the top {header}   of the scores",
            f"  recall     {_at(metrics, 'recall')}",
            f"  precision  {_at(metrics, 'precision')}",
            *rest,
        ]
    )


def _at(metrics: dict[str, float], name: str) -> str:
    return "".join(f"{metrics[f'test/{name}_at_q/{q}']:>10.4f}" for q in QUANTILES)


def _errors(metrics: dict[str, float], prefix: str) -> str:
    return f"Brier {metrics[f'{prefix}/brier']:.6f}, ECE {metrics[f'{prefix}/ece']:.6f}"


def _positives(splits: Splits) -> str:
    if splits.task == "binary":
        return f"{int((splits.test.y == 1).sum()):,} positives"
    return f"{len(splits.classes)} classes (macro averages)"
