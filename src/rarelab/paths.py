"""Paths: the shipped configuration and the home of the records."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent.parent


def checkout() -> Path | None:
    """The repository that this package runs from, or None if installed as a wheel."""
    return _CHECKOUT if (_CHECKOUT / "conf" / "train.yaml").is_file() else None


def config_root() -> Path:
    """The folder that holds ``conf/``, where ``experiments`` is a group like any other."""
    return checkout() or _PACKAGE


def home(configured: str | os.PathLike[str] | None = None) -> Path:
    """The absolute path of the folder of the records.

    ``paths.home`` takes precedence over ``RARELAB_HOME``, then ``outputs/`` of the checkout, or
    ``./outputs`` for a wheel.
    """
    chosen = configured or os.environ.get("RARELAB_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return (checkout() or Path.cwd()) / "outputs"
