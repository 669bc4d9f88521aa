"""Provenance: the program, machine and command that produced a run."""

import getpass
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from rarelab.tracking.redact import redact_command, redact_diff
from rarelab.version import __version__

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "mlflow", "hydra-core")
ENVIRONMENT = "environment.json"
DIFF = "diff.patch"

_PACKAGE = Path(__file__).resolve().parent.parent
_MAX_DIFF = 500_000
_MAX_UNTRACKED = 100
_GIT_TIMEOUT = 10
_NO_SUBMODULES = "--ignore-submodules=all"  # each has its own configuration
_FILTER = re.compile(r"(?is)filter\..*\.(clean|smudge|process|required)\Z")
_FILTER_COMMANDS = ("clean", "smudge", "process")
_GIT_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    # A partial clone fetches missing objects with a command named in its configuration.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}


def provenance(own: Iterable[Path] = ()) -> dict[str, Any]:
    """Versions, machine, command line and state of the code, as JSON-compatible values.

    ``checkouts`` has one entry for the git work tree of the package (if it runs from one) and one
    for that of the working directory: root, commit, dirty, untracked. ``diff`` holds the
    uncommitted changes to tracked files of the package's work tree and to ``own``, the files of
    modules the user has named; each is truncated at 500 000 characters. Other files in the working
    directory's repository are never recorded. Nothing here fails the run: without git there are no
    checkouts. Secrets are replaced by ``***``.
    """
    return {
        "rarelab": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        **machine(),
        "command": redact_command(shlex.join(sys.argv)),
        "checkouts": checkouts(),
        "diff": "".join(_diff(root, paths) for root, paths in _changed(own)),
    }


def write_environment(directory: Path, own: Iterable[Path] = ()) -> dict[str, Any]:
    """Write ``environment.json``, and ``diff.patch`` if :func:`provenance` has a diff."""
    facts = provenance(own)
    diff = facts.pop("diff")
    text = json.dumps(facts, indent=1)
    (directory / ENVIRONMENT).write_text(text + "\n", encoding="utf-8")
    if diff:
        (directory / DIFF).write_text(diff, encoding="utf-8")
    return facts


def machine() -> dict[str, Any]:
    """What the last bits of a floating-point sum depend on, besides the program."""
    import torch

    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def same_machine(directory: Path) -> bool:
    """Whether this machine matches the one a run directory records; True if it records none."""
    try:
        recorded = json.loads((directory / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return all(recorded.get(name, value) == value for name, value in machine().items())


def run_tags() -> dict[str, str]:
    """The tags MLflow shows as user, source and version."""
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
    roots = [_project(), _root(Path.cwd())]
    return [_state(root) for root in dict.fromkeys(roots) if root]


def look_at_code() -> None:
    """Look at the work trees now, for this process and those forked from it: git takes as long as
    a small network's epoch."""
    checkouts()
    for root, paths in _changed(()):
        _diff(root, paths)


# Cached: a run uses the code as it was when its process started.
@cache
def _state(root: str) -> dict[str, Any]:
    status = (_git(root, "status", "--porcelain", _NO_SUBMODULES) or "").splitlines()
    untracked = [line[3:] for line in status if line.startswith("??")]
    return {
        "root": root,
        "commit": (_git(root, "rev-parse", "HEAD") or "").strip(),
        "dirty": bool(status),
        "untracked": untracked[:_MAX_UNTRACKED] if root == _project() else [],
    }


def _changed(own: Iterable[Path]) -> list[tuple[str, tuple[str, ...]]]:
    """The work trees whose changes are recorded, each with its files (empty: all)."""
    project = _project()
    files: dict[str, list[str]] = {}
    for path in sorted({path.resolve() for path in own}):
        root = _root(path.parent)
        if root and root != project:
            files.setdefault(root, []).append(str(path))
    whole = [(project, ())] if project else []
    return [*whole, *((root, tuple(paths)) for root, paths in files.items())]


@cache
def _diff(root: str, paths: tuple[str, ...]) -> str:
    options = ("--no-ext-diff", "--no-textconv", "--no-color", _NO_SUBMODULES)
    diff = redact_diff(_git(root, "diff", *options, "HEAD", "--", *paths) or "")
    if len(diff) > _MAX_DIFF:
        diff = diff[:_MAX_DIFF] + f"\n# cut: {len(diff) - _MAX_DIFF} more characters\n"
    return diff


def _project() -> str | None:
    """The work tree the package itself is developed in."""
    return _root(_PACKAGE, must_track=True)


@cache
def _root(directory: Path, must_track: bool = False) -> str | None:
    # A wheel may be installed inside an unrelated work tree, which does not track the package.
    if must_track and not _git(str(directory), "ls-files", "__init__.py"):
        return None
    root = (_git(str(directory), "rev-parse", "--show-toplevel") or "").strip()
    return root if root and _git(root, "rev-parse", "--verify", "HEAD") else None


def _git(directory: str, *arguments: str) -> str | None:
    """The output of a git command; None without git or a work tree, or if it fails."""
    return _run_git(directory, arguments, _without_commands(directory))


@cache
def _without_commands(directory: str) -> tuple[tuple[str, str], ...]:
    """Settings that keep git from running commands named in a repository's own configuration. Its
    filters run whenever git reads a file and can only be disabled one by one."""
    listed = _run_git(directory, ("config", "--list", "--name-only", "-z"), ()) or ""
    filters = {name.rpartition(".")[0] for name in listed.split("\0") if _FILTER.match(name)}
    off = [(f"{name}.{what}", "") for name in sorted(filters) for what in _FILTER_COMMANDS]
    off += [(f"{name}.required", "false") for name in sorted(filters)]
    return (("core.fsmonitor", "false"), ("core.hooksPath", os.devnull), *off)


def _run_git(
    directory: str, arguments: Sequence[str], settings: Sequence[tuple[str, str]]
) -> str | None:
    environment = {**os.environ, **_GIT_ENVIRONMENT, "GIT_CONFIG_COUNT": str(len(settings))}
    for index, (key, value) in enumerate(settings):  # unlike with -c, a key may contain '='
        environment |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
    try:
        done = subprocess.run(
            ["git", "-C", directory, *arguments],
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
