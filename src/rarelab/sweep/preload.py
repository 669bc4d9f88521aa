"""What the fork server imports once, so that no job pays for it: torch, MLflow and this package.

Nothing is opened here and no thread is started: a client, a connection or a lock would be shared by
all the processes that are forked afterwards.
"""

import torch

import rarelab.data.tables.preprocess
import rarelab.figures.run
import rarelab.processes.follow
import rarelab.runs.run
import rarelab.sweep.failure
import rarelab.sweep.work
from rarelab.tracking.store import import_mlflow

import_mlflow("sqlite://")

# torch imports its compiler (a second and a half) with the first optimiser that is made.
torch.optim.Adam([torch.zeros(1, requires_grad=True)])
rarelab.figures.run.warm_up()

PRELOADED = (
    rarelab.data.tables.preprocess,
    rarelab.figures.run,
    rarelab.processes.follow,
    rarelab.runs.run,
    rarelab.sweep.failure,
    rarelab.sweep.work,
)
