"""What the fork server imports once, so that no job pays for it: torch, MLflow and this package.

Nothing is opened here and no thread is started: a client or a connection would be shared by all the
processes that are forked afterwards.
"""

import rarelab.data.preprocess
import rarelab.figures
import rarelab.run
import rarelab.sweep.failure
import rarelab.sweep.job
from rarelab.tracking.store import import_mlflow

import_mlflow("sqlite://")

PRELOADED = (
    rarelab.data.preprocess,
    rarelab.figures,
    rarelab.run,
    rarelab.sweep.failure,
    rarelab.sweep.job,
)
