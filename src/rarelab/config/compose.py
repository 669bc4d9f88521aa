"""Composes a configuration from overrides with Hydra, and turns its errors into one line."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from rarelab.errors import RequestError, nearest
from rarelab.paths import config_root
from rarelab.quoting import override
from rarelab.quoting import quoted as quoted_text

CONFIG_NAME = "train"


def config_dir() -> str:
    return str(config_root() / "conf")


@contextmanager
def own_hydra() -> Iterator[None]:
    """Hydra set up for this package's configuration; restores the global state afterwards, for a
    caller that is itself a Hydra application."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir(), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


_FROM_NULL = ("budget.", "threshold.")


def opened(overrides: list[str]) -> list[str]:
    """Overrides with ``budget.alerts=``, ``budget.per=`` and ``threshold.precision=`` added to what
    is null, which has no keys; what they are called is checked with their values.

    Raises:
        RequestError: a budget is given as a share too.
    """
    capacity = [item for item in overrides if item.startswith("budget.")]
    share = [item for item in overrides if re.match(r"budget=(?!null$|\{)", item)]
    if capacity and share:
        raise RequestError(
            f"{share[-1]} and {capacity[0]} are both given: a budget is a share of the rows or a "
            "capacity"
        )
    return [f"++{item}" if item.startswith(_FROM_NULL) else item for item in overrides]


def compose_train(overrides: list[str]) -> tuple[DictConfig, dict[str, str | None]]:
    """The configuration composed from the overrides, and the option chosen in each group.

    Raises:
        RequestError: an override that does not parse, or a key or option that does not exist.
    """
    with one_line_errors(overrides):
        return _compose(overrides)


def compose_compare(overrides: list[str]) -> DictConfig:
    """The configuration of ``rarelab compare`` with these overrides.

    Raises:
        RequestError: as for :func:`compose_train`.
    """
    with one_line_errors(overrides, "compare"):
        return _compose(quoted(overrides), "compare")[0]


def _compose(
    overrides: list[str], config: str = CONFIG_NAME
) -> tuple[DictConfig, dict[str, str | None]]:
    with own_hydra(), readable_files():
        cfg = compose(config, opened(overrides), return_hydra_config=True)
    return split_choices(cfg)


def quoted(overrides: list[str]) -> list[str]:
    """Overrides of ``rarelab compare``, with names quoted that Hydra would not parse as one value.
    They are also :func:`opened`.

    ``baseline=loss=smooth_ap queue_size=8192`` is what users copy from a table.
    """
    found = []
    for item in opened(overrides):
        key, _, value = item.partition("=")
        plain = value[:1] not in ("'", '"') and re.search(
            r"[=\s,:{}\[\]()'\"\\]|[^\x00-\x7f]", value
        )
        if key in ("experiment", "baseline", "metric") and plain:
            item = f"{key}={quoted_text(value)}"
        found.append(item)
    return found


def split_choices(cfg: DictConfig) -> tuple[DictConfig, dict[str, str | None]]:
    """Split off Hydra's own node: the run's configuration, and the option chosen in each group."""
    choices = dict(cfg.hydra.runtime.choices)
    plain = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return plain, {str(k): v for k, v in choices.items() if not str(k).startswith("hydra/")}


@contextmanager
def readable_files() -> Iterator[None]:
    """Turn a YAML error in a configuration file into one line with the place and the problem."""
    try:
        yield
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = "a configuration file"
        if mark is not None:
            name = os.path.relpath(mark.name)
            where = f"{mark.name if name.startswith('..') else name}, line {mark.line + 1}"
        raise RequestError(f"{where}: {error.problem}") from None


@contextmanager
def one_line_errors(overrides: list[str], config: str = CONFIG_NAME) -> Iterator[None]:
    """Turn Hydra's errors about a request into one line with the nearest valid name."""
    try:
        yield
    except MissingConfigException as error:
        raise RequestError(_missing_option(error)) from error
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, RequestError):
            raise error.__cause__ from None  # a plug-in refused its own values
        raise RequestError(_wrong_override(error, overrides, config)) from error


def _missing_option(error: MissingConfigException) -> str:
    missing = error.missing_cfg_file or ""
    group, _, option = missing.rpartition("/")
    if not group or not error.options:
        return str(error).splitlines()[0]
    return f"{group}={option}: there is no such choice; {nearest(option, error.options)}"


def _wrong_override(error: Exception, overrides: list[str], config: str) -> str:
    if isinstance(error, OverrideParseException):
        key, _, value = (error.override or "").partition("=")
        quote = f"; quote the value: {override(key, value)}" if _may_be_text(value) else ""
        return f"{error.override}: cannot be read; expected KEY=VALUE{quote}"
    if str(error).startswith("Ambiguous value for argument"):
        line = next((item for item in overrides if repr(item)[1:-1] in str(error)), "")
        key, _, value = line.partition("=")
        return (
            f"{line}: commas mean a sweep (-m); quote a value that contains them: "
            f"{override(key, value)}"
        )
    found = re.search(r"[Cc]ould not (?:override|find) '([^']+)'", str(error))
    if found is None and (key := getattr(error, "full_key", None)):
        return f"{key}: {str(error).splitlines()[0]}"
    if found is None:
        return " ".join(str(error).split("\n")[:2]).strip()
    key = found.group(1).partition("@")[0]
    return f"{key}: there is no such key; {nearest(key, _known_keys(overrides, config))}"


def _may_be_text(value: str) -> bool:
    return bool(value) and value[0] not in "[{('\""


def _known_keys(overrides: list[str], config: str) -> set[str]:
    """Every key and group that a command line could set, given its group choices."""
    cfg, groups = _compose([], config)
    chosen = [item for item in overrides if item.partition("=")[0] in groups]
    with suppress(HydraException, OmegaConfBaseException):
        cfg, _ = _compose(chosen, config)
    return {*_keys(OmegaConf.to_container(cfg)), *groups}


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")
