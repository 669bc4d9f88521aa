"""Imported once by the fork server, so that no job has to: torch, MLflow and this package.

Opens nothing and starts no thread: forked processes would share any client, connection or lock.
"""

import contextlib
import importlib
import importlib.metadata

from rarelab.collector import importing, own_process

_NEEDED = (
    "torch",
    # What the first use of a library would import, in every job anew.
    *("alembic.command", "filelock", "pandas.core.arrays.arrow.extension_types", "pyarrow.dataset"),
    *("sklearn.datasets", "sqlalchemy.dialects.sqlite", "torch.utils.serialization"),
    *("rarelab.data.file", "rarelab.data.tables.suspects", "rarelab.data.tables.tabular"),
    *("rarelab.data.archives.real", "rarelab.data.tables.preprocess", "rarelab.data.toy"),
    "rarelab.figures.run",
    "rarelab.processes.follow",
    "rarelab.runs.run",
    "rarelab.sweep.failure",
    "rarelab.sweep.work",
)


_LIGHT = ("rarelab.data.file.", "rarelab.data.toy.", "rarelab.losses.", "rarelab.models.")
_EXTRA = ".soap.APLoss"
"""Components whose modules import no library that a job may do without, but for one loss."""


def _load() -> None:
    for name in _NEEDED:
        importlib.import_module(name)
    import torch

    from rarelab.config.components import components
    from rarelab.config.groups import LEAVES
    from rarelab.config.signature import code_modules
    from rarelab.figures.run import warm_up
    from rarelab.tracking.environment import look_at_code
    from rarelab.tracking.store import import_mlflow, remember_newest_migration
    from rarelab.tracking.wheel import wheel

    import_mlflow("sqlite://")
    remember_newest_migration()
    # The first optimiser makes torch import its compiler, which takes a second and a half.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    warm_up()
    # Parsing this package's modules and leaves, which each job would do anew, takes as long as
    # training a small network. What a module imports cannot change for a job that is forked with it
    # loaded; its source is still read by each job, so that an edit is noticed.
    targets = [target for group in LEAVES for target in sorted(components(group))]
    code_modules([t for t in targets if t.startswith(_LIGHT) and not t.endswith(_EXTRA)])
    # The state of the code is that of now, when it is loaded, and the same for all jobs.
    look_at_code()
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        wheel()


own_process()
with importing():
    _load()
