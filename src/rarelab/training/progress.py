"""One line per epoch, on the console and in the run's log."""

import logging
from collections.abc import Callable

from rarelab.metrics.table import AUCPR
from rarelab.training.health import advice
from rarelab.training.history import Row

log = logging.getLogger("rarelab")


def epoch_lines(
    max_epochs: int, final_weight: float, select_by: str = AUCPR
) -> Callable[[Row], None]:
    """A history listener that prints phase, weight, temperature, loss and val AUCPR of an epoch,
    and the metric that selects it if that is another.

    Each kind of advice about an unhealthy loss is given once.
    """
    return _lines("epoch", max_epochs, final_weight, 1, "steps", select_by)


def round_lines(
    rounds: int, final_weight: float, every: int, select_by: str = AUCPR
) -> Callable[[Row], None]:
    """The same for a model grown in rounds, with a line for one round in ``every``."""
    return _lines("round", rounds, final_weight, every, "rows of the rarest class", select_by)


def _lines(
    unit: str, total: int, final_weight: float, every: int, counted: str, select_by: str
) -> Callable[[Row], None]:
    given: set[str] = set()

    def listen(row: Row) -> None:
        metrics = row["metrics"]
        done = row["step"] + 1
        if AUCPR not in metrics or (done % every and done != total):
            return
        line = _line(metrics, final_weight)
        if select_by != AUCPR:
            line += f"  {select_by} {metrics[select_by]:6.4f}"
        log.info("%s %*d/%d  %s", unit, len(str(total)), done, total, line)
        for line in advice(metrics, counted):
            kind = line.split(" ", 1)[0]
            if kind not in given:
                given.add(kind)
                log.warning("  warning: %s", line)

    return listen


def phase(ap_weight: float, final_weight: float = 1.0) -> str:
    """``warmup`` at weight 0, ``main`` once the final weight is reached, ``blend`` in between."""
    if ap_weight == 0.0:
        return "warmup"
    return "main" if ap_weight >= final_weight else "blend"


def _line(metrics: dict[str, float], final_weight: float) -> str:
    weight = metrics["train/ap_weight"]
    temperature = metrics.get("train/temperature")
    shown = "    -" if temperature is None else f"{temperature:5.3f}"
    loss = f"{metrics['train/loss']:9.5f}" if "train/loss" in metrics else "        -"
    return (
        f"{phase(weight, final_weight):<6}  ap_weight {weight:4.2f}  temperature {shown}  "
        f"loss {loss}  val AUCPR {metrics[AUCPR]:6.4f}"
    )
