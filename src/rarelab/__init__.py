"""Does training on a ranking loss beat cross-entropy on your rare positives?"""

from rarelab.api import train
from rarelab.version import __version__

__all__ = [
    "__version__",  # the release
    "train",  # one run or a sweep, like `rarelab train`
]
