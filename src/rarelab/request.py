"""Turn a ``rarelab train`` request into one run or a sweep, and execute it."""

from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.plugin import Plugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rarelab.collector import importing
from rarelab.config import hydra_internals
from rarelab.config.check import check_leaf
from rarelab.config.components import components
from rarelab.config.compose import one_line_errors
from rarelab.config.compose_many import Composer, loader
from rarelab.config.groups import MAKES_A_SWEEP, first_key
from rarelab.errors import RequestError, nearest
from rarelab.processes.place import Place
from rarelab.sweep.overrides import as_meant, key_of, quoted_arms, quoted_space

MULTIRUN = ("-m", "--multirun")


def request(arguments: Sequence[str], folders: Sequence[str] = (), *, shell: bool = True) -> Any:
    """Do what ``rarelab train ARGUMENTS`` does.

    It is a sweep with ``-m``, if the study asks for one (``hydra.sweeper.params`` or
    ``hydra.mode``), or with ``sweep.arms``, ``sweep.zip``, ``sweep.search.trials`` or
    ``sweep.dry_run``. A swept value by itself makes it a sweep only outside a shell; in a shell a
    comma may be a typo.

    Args:
        arguments: overrides, with or without ``-m``.
        folders: extra configuration folders (``--config-dir``).
        shell: whether the arguments were typed into a shell.

    Returns:
        The run's ``Outcome`` (None in torchrun processes of rank > 0); for a sweep, the ``Result``
        of every job in the plan.

    Raises:
        RequestError: the request is invalid; nothing ran.
    """
    typed = [as_meant(a) for a in arguments if a not in MULTIRUN]
    lines = [quoted_space(quoted_arms(line)) for line in typed]
    with loader(folders) as found:
        _check_study(arguments, found)
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
    with importing():
        from rarelab.runs.run import run

    return run(cfg, choices)


def _check_study(arguments: Sequence[str], found: ConfigLoader) -> None:
    """Refuse a study's name as that of the records, unless the study is asked for too."""
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    name = given.get("experiment")
    if name in found.get_group_options("experiments") and "experiments" not in given:
        raise RequestError(
            f"experiment={name}: expected a name for the records; the study is experiments={name}"
            f" (to record under its name: tracking.experiment={name})"
        )


def _is_sweep(cfg: DictConfig) -> bool:
    sweep = cfg.sweep
    asked = sweep.arms or sweep.zip or sweep.dry_run or cfg.hydra.sweeper.get("params")
    asked = asked or (sweep.get("search") or {}).get("trials") or sweep.batch == "auto"
    return bool(asked) or cfg.hydra.mode == RunMode.MULTIRUN


def _sweep(cfg: DictConfig, found: ConfigLoader, lines: list[str]) -> Any:
    if Place.of_this_process() is not None:
        raise RequestError(
            "torchrun starts the processes of a single run, but a sweep starts its own: "
            "use rarelab train -m ... trainer.devices=N"
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
    """Refuse anything but an installed plug-in of this kind. Our plug-ins' values are checked like
    any leaf; third-party values are not."""
    target = leaf.get("_target_") if isinstance(leaf, dict) else leaf
    found = {f"{cls.__module__}.{cls.__name__}" for cls in Plugins.instance().discover(kind)}
    if target not in found:
        known = nearest(str(target), components(key))
        raise RequestError(f"{key}._target_={target}: there is no such plug-in; {known}")
    if target.startswith("hydra_plugins.rarelab_"):
        check_leaf(key, leaf, allow=[])


def _not_called(cfg: DictConfig) -> None:
    raise AssertionError("a JobLauncher runs jobs, not Hydra's task function")
