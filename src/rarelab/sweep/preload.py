"""Imported once by the fork server, so that no job has to: torch, MLflow and this package.

Opens nothing and starts no thread: forked processes would share any client, connection or lock.
"""

import importlib

from rarelab.collector import importing, own_process

_NEEDED = (
    "torch",
    "rarelab.data.tables.preprocess",
    "rarelab.figures.run",
    "rarelab.processes.follow",
    "rarelab.runs.run",
    "rarelab.sweep.failure",
    "rarelab.sweep.work",
)


def _load() -> None:
    for name in _NEEDED:
        importlib.import_module(name)
    import torch

    from rarelab.config.components import components
    from rarelab.config.groups import LEAVES
    from rarelab.config.signature import code_modules
    from rarelab.figures.run import warm_up
    from rarelab.tracking.store import import_mlflow

    import_mlflow("sqlite://")
    # The first optimiser makes torch import its compiler, which takes a second and a half.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    warm_up()
    # Parsing this package's modules and leaves, which each job would do anew, takes as long as
    # training a small network. What a module imports cannot change for a job that is forked with it
    # loaded; its source is still read by each job, so that an edit is noticed.
    code_modules(())
    for group in LEAVES:
        components(group)


own_process()
with importing():
    _load()
