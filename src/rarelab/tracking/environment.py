"""Provenance: with which program, on which machine, by which command a run was made."""

import getpass
import json
import os
import platform
import shlex
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from rarelab import __version__
from rarelab.tracking.redact import redact_command, redact_text

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "mlflow", "hydra-core")
ENVIRONMENT = "environment.json"
DIFF = "diff.patch"

_PACKAGE = Path(__file__).resolve().parent.parent
_MAX_DIFF = 500_000
_MAX_UNTRACKED = 100
_GIT_TIMEOUT = 10


def provenance() -> dict[str, Any]:
    """Versions, machine, command line and the state of the code, as JSON can hold them.

    ``checkouts`` has one entry per git work tree concerned (that of the package, where it runs from
    one, and that of the working directory): root, commit, dirty, untracked. ``diff`` is the text of
    all uncommitted changes to tracked files, cut at 500 000 characters. No entry fails the run:
    without git there are no checkouts. Passwords in URIs, secret settings and the values of secret
    environment variables are replaced by ``***``.
    """
    states = checkouts()
    return {
        "rarelab": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        **machine(),
        "command": redact_command(shlex.join(sys.argv)),
        "checkouts": [{k: v for k, v in state.items() if k != "diff"} for state in states],
        "diff": "".join(state["diff"] for state in states),
    }


def write_environment(directory: Path) -> dict[str, Any]:
    """Write ``environment.json``, and ``diff.patch`` if the code differs from its commit."""
    facts = provenance()
    diff = facts.pop("diff")
    text = json.dumps(facts, indent=1)
    (directory / ENVIRONMENT).write_text(text + "\n", encoding="utf-8")
    if diff:
        (directory / DIFF).write_text(diff, encoding="utf-8")
    return facts


def machine() -> dict[str, Any]:
    """What the last bits of a sum depend on, besides the program."""
    import torch

    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def same_machine(directory: Path) -> bool:
    """Whether what a run directory says of its machine holds here; True where it says nothing."""
    try:
        recorded = json.loads((directory / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return all(recorded.get(name, value) == value for name, value in machine().items())


def run_tags() -> dict[str, str]:
    """The tags that MLflow shows as user, source and version."""
    tags = {
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": redact_command(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
    }
    states = checkouts()
    if states:
        tags["mlflow.source.git.commit"] = states[0]["commit"]
        tags["rarelab.dirty"] = str(states[0]["dirty"]).lower()
    return tags


def checkouts() -> list[dict[str, Any]]:
    """The state of the package's git work tree and of the working directory's, if there are any."""
    roots = [_root(_PACKAGE, must_track=True), _root(Path.cwd())]
    return [_state(root) for root in dict.fromkeys(roots) if root]


@cache
def _state(root: str) -> dict[str, Any]:
    # Cached: a run is made of the code that was there when its process began.
    status = (_git(root, "status", "--porcelain") or "").splitlines()
    untracked = [line[3:] for line in status if line.startswith("??")]
    diff = _git(root, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD") or ""
    if len(diff) > _MAX_DIFF:
        diff = diff[:_MAX_DIFF] + f"\n# cut: {len(diff) - _MAX_DIFF} more characters\n"
    return {
        "root": root,
        "commit": (_git(root, "rev-parse", "HEAD") or "").strip(),
        "dirty": bool(status),
        "untracked": untracked[:_MAX_UNTRACKED],
        "diff": redact_text(diff),
    }


@cache
def _root(directory: Path, must_track: bool = False) -> str | None:
    # A wheel may be installed below someone else's work tree, which then says nothing about it.
    if must_track and not _git(str(directory), "ls-files", "__init__.py"):
        return None
    root = (_git(str(directory), "rev-parse", "--show-toplevel") or "").strip()
    return root if root and _git(root, "rev-parse", "--verify", "HEAD") else None


def _git(directory: str, *arguments: str) -> str | None:
    """The output of a git command; None where there is no git, no work tree or no answer."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", directory, *arguments],
            capture_output=True,
            timeout=_GIT_TIMEOUT,
            env=environment,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
