"""What was asked for: one run or a sweep, and that done."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from rarelab.check import check_leaf
from rarelab.compose import one_line_errors
from rarelab.errors import RequestError
from rarelab.launch import Place
from rarelab.sweep.composer import Composer, loader
from rarelab.sweep.overrides import key_of, quoted_arms

MULTIRUN = ("-m", "--multirun")
_PLUGINS = "hydra_plugins"
_MAY_SAY_SO = ("experiments", "sweep", "hydra")


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
    lines = [quoted_arms(argument) for argument in arguments if argument not in MULTIRUN]
    with loader(folders) as found:
        composer = Composer(found)
        if len(lines) < len(arguments) or (not shell and composer.sweeps(lines)):
            return _sweep(composer.sweep(lines), found, lines)
        if any(key_of(line).partition(".")[0].partition("/")[0] in _MAY_SAY_SO for line in lines):
            base = composer.sweep(lines)
            if _is_sweep(base):
                return _sweep(base, found, lines)
        cfg, choices = composer.job(lines)
    place = Place.of_this_process()
    if place is not None:
        place.claim(cfg)
        if place.rank > 0:
            from rarelab.following import follow_torchrun

            return follow_torchrun(cfg, place)
    from rarelab.run import run

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
    for part in ("sweeper", "launcher"):
        _check_plugin(f"hydra.{part}", OmegaConf.to_container(cfg.hydra[part], resolve=True))
    context = HydraContext(config_loader=found, callbacks=Callbacks())
    with one_line_errors(lines):
        sweeper = Plugins.instance().instantiate_sweeper(
            hydra_context=context, task_function=_not_called, config=cfg
        )
        return sweeper.sweep(lines)


def _check_plugin(key: str, leaf: Any) -> None:
    """The values of a plug-in of ours, like those of any leaf; another's are its own business."""
    if str(leaf.get("_target_")).startswith(f"{_PLUGINS}.rarelab_"):
        check_leaf(key, leaf, allow=[_PLUGINS])


def _not_called(cfg: DictConfig) -> None:
    raise AssertionError("a JobLauncher runs jobs, not Hydra's task function")
