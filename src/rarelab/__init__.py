"""Does training on a ranking loss beat cross-entropy on your rare positives?"""

from rarelab import compare
from rarelab.api import load, make_callable, record, train
from rarelab.version import __version__

# A function of this name would be hidden as soon as a part of the package is imported.
make_callable(compare)

__all__ = [
    "__version__",  # the release
    "compare",  # arms of recorded runs as a data frame, like `rarelab compare`
    "load",  # the model of a recorded run, to score new rows like `rarelab predict`
    "record",  # the predictions of another program as a run, like `rarelab record`
    "train",  # one run or a sweep, like `rarelab train`
]
