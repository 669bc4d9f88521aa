"""One colour per arm, so overlaid curves distinguish arms rather than seeds."""

from collections.abc import Sequence

from rarelab.figures.palette import PALETTE
from rarelab.records.load import Run

TAG = "mlflow.runColor"


def colours(runs: Sequence[Run]) -> dict[str, str]:
    """A colour for each run that has none, by run id; ``runs`` are ordered oldest first.

    An arm keeps a colour that one of its runs already has, even if the user set it. With more new
    arms than free colours the result is empty, and MLflow's own colours (by run) stay.
    """
    arms = {run.run_id: tuple(sorted(run.arm.items())) for run in runs}
    given = {arms[run.run_id]: run.tags[TAG] for run in runs if TAG in run.tags}
    free = [colour for colour in PALETTE if colour not in given.values()]
    new = [arm for arm in dict.fromkeys(arms.values()) if arm not in given]
    if len(new) > len(free):
        return {}
    given |= dict(zip(new, free, strict=False))
    return {run.run_id: given[arms[run.run_id]] for run in runs if TAG not in run.tags}
