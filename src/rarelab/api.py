"""What the command runs, for notebooks."""

from rarelab.compose import compose_train
from rarelab.run import Outcome, run


def train(overrides: list[str]) -> Outcome:
    """Train and record one run, as ``rarelab train`` with the same overrides does.

    Args:
        overrides: Hydra overrides, for example ``["dataset=toy", "loss=smooth_ap"]``.

    Returns:
        The run's MLflow id, status, metrics (by the keys of the record) and folder.

    Raises:
        rarelab.errors.RequestError: the request was wrong; nothing ran.
        rarelab.errors.RarelabError: the run failed; it is recorded with its status.
    """
    from rarelab.console import configure_console

    configure_console()
    cfg, choices = compose_train(overrides)
    return run(cfg, choices)
