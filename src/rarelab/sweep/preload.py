"""Imported once by the fork server, so that no job has to: torch, MLflow and this package.

Opens nothing and starts no thread: forked processes would share any client, connection or lock.
"""

import torch

import rarelab.data.tables.preprocess
import rarelab.figures.run
import rarelab.processes.follow
import rarelab.runs.run
import rarelab.sweep.failure
import rarelab.sweep.work
from rarelab.config.components import components
from rarelab.config.groups import LEAVES
from rarelab.config.signature import code_modules
from rarelab.tracking.store import import_mlflow

import_mlflow("sqlite://")

# The first optimiser makes torch import its compiler, which takes a second and a half.
torch.optim.Adam([torch.zeros(1, requires_grad=True)])
rarelab.figures.run.warm_up()

# Parsing this package's modules and leaves, which each job would do anew, takes as long as training
# a small network. What a module imports cannot change for a job that is forked with it loaded; its
# source is still read by each job, so that an edit is noticed.
code_modules(())
for group in LEAVES:
    components(group)

PRELOADED = (
    rarelab.data.tables.preprocess,
    rarelab.figures.run,
    rarelab.processes.follow,
    rarelab.runs.run,
    rarelab.sweep.failure,
    rarelab.sweep.work,
)
