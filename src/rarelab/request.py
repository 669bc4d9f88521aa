"""What was asked for: one run or a sweep, and that done."""

from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.plugin import Plugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rarelab.config import hydra_internals
from rarelab.config.check import check_leaf
from rarelab.config.components import components
from rarelab.config.compose import one_line_errors
from rarelab.config.compose_many import Composer, loader
from rarelab.config.groups import MAKES_A_SWEEP, first_key
from rarelab.errors import RequestError, nearest
from rarelab.processes.place import Place
from rarelab.sweep.overrides import key_of, quoted_arms, quoted_name

MULTIRUN = ("-m", "--multirun")


def request(arguments: Sequence[str], folders: Sequence[str] = (), *, shell: bool = True) -> Any:
    """Do what ``rarelab train ARGUMENTS`` does.

    It is a sweep with ``-m``, where the study says so (``hydra.sweeper.params`` or ``hydra.mode``),
    and with ``sweep.arms``, ``sweep.zip`` or ``sweep.dry_run``. A swept value alone makes it one
    only if it was not typed into a shell, where a comma may be a slip.

    Args:
        arguments: overrides, ``-m`` among them or not.
        folders: the user's own folders of configuration (``--config-dir``).
        shell: whether the arguments were typed into one.

    Returns:
        The run's ``Outcome`` (None in the processes that torchrun started beside the first one);
        for a sweep the ``Result`` of every job of the plan.

    Raises:
        RequestError: the request cannot be meant; nothing ran.
    """
    lines = [quoted_arms(quoted_name(a)) for a in arguments if a not in MULTIRUN]
    with loader(folders) as found:
        composer = Composer(found)
        if len(lines) < len(arguments) or (not shell and composer.sweeps(lines)):
            return _sweep(composer.sweep(lines), found, lines)
        if any(first_key(key_of(line)) in MAKES_A_SWEEP for line in lines):
            base = composer.sweep(lines)
            if _is_sweep(base):
                return _sweep(base, found, lines)
        cfg, choices = composer.job(lines)
    place = Place.of_this_process()
    if place is not None:
        place.claim(cfg)
        if place.rank > 0:
            from rarelab.processes.follow import follow_torchrun

            return follow_torchrun(cfg, place)
    from rarelab.runs.run import run

    return run(cfg, choices)


def _is_sweep(cfg: DictConfig) -> bool:
    asked = cfg.sweep.arms or cfg.sweep.zip or cfg.sweep.dry_run or cfg.hydra.sweeper.get("params")
    return bool(asked) or cfg.hydra.mode == RunMode.MULTIRUN


def _sweep(cfg: DictConfig, found: ConfigLoader, lines: list[str]) -> Any:
    if Place.of_this_process() is not None:
        raise RequestError(
            "torchrun starts the processes of one run; a sweep starts those of its jobs itself: "
            "rarelab train -m ... trainer.devices=N"
        )
    for part, kind in (("sweeper", Sweeper), ("launcher", Launcher)):
        leaf = OmegaConf.to_container(cfg.hydra[part], resolve=True)
        _check_plugin(f"hydra.{part}", leaf, kind)
    context = hydra_internals.context(found)
    with one_line_errors(lines):
        sweeper = Plugins.instance().instantiate_sweeper(
            hydra_context=context, task_function=_not_called, config=cfg
        )
        return sweeper.sweep(lines)


def _check_plugin(key: str, leaf: Any, kind: type[Plugin]) -> None:
    """Only an installed plug-in of its kind is built. The values of ours are checked like those of
    any leaf; another's are its own business."""
    target = leaf.get("_target_") if isinstance(leaf, dict) else leaf
    found = {f"{cls.__module__}.{cls.__name__}" for cls in Plugins.instance().discover(kind)}
    if target not in found:
        known = nearest(str(target), components(key))
        raise RequestError(f"{key}._target_={target}: there is no such plug-in; {known}")
    if target.startswith("hydra_plugins.rarelab_"):
        check_leaf(key, leaf, allow=[])


def _not_called(cfg: DictConfig) -> None:
    raise AssertionError("a JobLauncher runs jobs, not Hydra's task function")
