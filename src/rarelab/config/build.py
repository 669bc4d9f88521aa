"""Builds objects from a configuration, after checking every leaf; nothing else instantiates."""

import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from rarelab.boosting.boosted import Boosted
from rarelab.config import asked, groups
from rarelab.config.check import check_leaf, check_value, parameters
from rarelab.config.components import load_target
from rarelab.config.prepare import check_shared
from rarelab.config.sizes import Sizes
from rarelab.data.shared import splits_of
from rarelab.data.splits import Dataset, Splits, Table
from rarelab.errors import RequestError, few, nearest
from rarelab.losses.members import MemberLosses
from rarelab.losses.plain import plain_loss
from rarelab.losses.prior import corrected
from rarelab.losses.protocols import Indexed, Sampling
from rarelab.metrics.budget import Budget, budgets
from rarelab.metrics.costs import Matrix
from rarelab.metrics.thresholds import AlertRule
from rarelab.models import Estimator, Members, adapted, set_output_prior
from rarelab.models.shapes import INSTEAD, READS
from rarelab.streams import drawing_from, stream_seed
from rarelab.training.loop import Trainer, Work, reaches_main
from rarelab.training.rounds import RoundWork, rounds_reach_main
from rarelab.training.sampling import Natural, Sampler

FROM_BUILDER = frozenset({"warmup_loss", "main_loss", "params", "optimizer", "models"})
"""Parameters that are other components; leaves do not list them."""

FROM_DATA = frozenset(
    {
        "in_features",
        "input_shape",
        "bin_edges",
        "one_hot",
        "codes",
        "num_outputs",
        "members",
        "num_classes",
        "num_rows",
        "class_counts",
        "class_priors",
        "pos_weight",
        "temp_decay_steps",
        "T_max",
        "total_iters",
        "experiment",
        "home",
    }
)
"""Parameters that a leaf may leave null: filled in from the data or from where the run goes."""

SUPPLIED = FROM_BUILDER | FROM_DATA

Model = nn.Module | Estimator | Boosted


def check(cfg: DictConfig) -> None:
    """Refuse an invalid target, key or value before anything is built.

    Raises:
        RequestError: with the key, what was found, what was expected and the nearest valid name.
    """
    known = (*groups.LEAVES, *groups.VALUES)
    for key in cfg:
        if key not in known:
            raise RequestError(f"{key}: there is no such key; {nearest(str(key), known)}")
    for key in known:
        if key not in cfg:
            raise RequestError(f"{key}: this key is required, but the command line removes it")
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    _check_texts(plain)
    for key, expected in groups.VALUES.items():
        check_value(key, plain[key], expected)
    for group in groups.LEAVES:
        if not plain[group] and group in groups.NEEDED:
            raise RequestError(f"{group}: expected a group choice with a _target_, found nothing")
        check_group(cfg, group)
    trainer(cfg)  # cheap to build, and its values depend on nothing else
    asked.check(plain)


def _check_texts(node: Any, key: str = "") -> None:
    """Refuse the NUL character, which no file name, database or server accepts."""
    if isinstance(node, str) and "\0" in node:
        raise RequestError(f"{key}={node!r}: expected text without a NUL character")
    if isinstance(node, dict):
        for name, value in node.items():
            _check_texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for value in node:
            _check_texts(value, key)


def check_group(cfg: DictConfig, group: str) -> None:
    """:func:`check` for the leaf of one group, if it has one."""
    if cfg.allow_targets and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # for the user's own modules
    if cfg.get(group):
        leaf = OmegaConf.to_container(cfg[group], resolve=True)
        check_leaf(group, leaf, allow=list(cfg.allow_targets), supplied=SUPPLIED)


def instantiate(cfg: DictConfig, group: str, facts: Mapping[str, Any] | None = None) -> Any:
    """Build the component of a group; null or missing parameters come from ``facts``."""
    leaf = cfg[group]
    if not leaf:
        return None
    target = load_target(
        f"{group}._target_", leaf["_target_"], group, allow=list(cfg.allow_targets)
    )
    names = parameters(target)
    filled = {
        name: value
        for name, value in (facts or {}).items()
        if name in names and leaf.get(name) is None
    }
    try:
        # Hydra copies its arguments; a partial passes parameters and modules on uncopied.
        return hydra.utils.instantiate(leaf, _partial_=True, _convert_="all")(**filled)
    except (InstantiationException, ValueError, TypeError) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if isinstance(cause, RequestError):
            raise cause from None
        raise RequestError(f"{group}: {_first_line(cause or error)}") from error


def dataset(cfg: DictConfig) -> Dataset:
    built = instantiate(cfg, "dataset")
    if not isinstance(built, Dataset):
        raise RequestError(
            f"dataset._target_: {cfg.dataset._target_} returns a {type(built).__name__} without "
            "identity() and splits(seed); see rarelab.data.splits.Dataset"
        )
    return built


def trainer(cfg: DictConfig) -> Trainer:
    return instantiate(cfg, "trainer")


def sampler(cfg: DictConfig) -> Sampler:
    return instantiate(cfg, "sampler")


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs for training, built from its configuration. ``work`` is None for an
    estimator, which fits itself; ``data`` is the data set's identity; the first of ``budgets``, if
    any, is the run's, by which ``alerts`` validation rows may alert; ``rule`` chooses a threshold
    on them."""

    data: str
    sizes: Sizes
    model: Model
    work: Work | RoundWork | None
    costs: Matrix | None
    budgets: tuple[Budget, ...] = ()
    alerts: int | None = None
    rule: AlertRule | None = None


def prepared(
    cfg: DictConfig,
    shared_out: Callable[[Splits], Splits] = lambda splits: splits,
    read: Splits | None = None,
) -> Prepared:
    """Load the data and build everything, without training or writing anything.

    ``shared_out`` may deal the rows out differently (a refit trains on all of them); ``read`` are
    the splits if they have been read.

    Raises:
        RequestError: a constructor refuses a value; parts do not fit each other, the data or
            several processes; or the schedule never reaches an epoch that can be selected.
    """
    chosen, data = trainer(cfg), dataset(cfg)
    leaf: Any = OmegaConf.to_container(cfg.dataset, resolve=True)
    splits = shared_out(read or splits_of(data, leaf, stream_seed(cfg.seed, "draw")))
    costs, rule = asked.costs(cfg, splits), asked.rule(cfg, splits)
    allowed = budgets(cfg.budget)
    alerts, _ = (asked.alerts(allowed, table) for table in (splits.val, splits.test))
    sizes = Sizes(splits, chosen, sampler(cfg))
    built, todo = model(cfg, sizes), None
    if chosen.devices > 1:
        check_shared(chosen, built, len(splits.train))
    if isinstance(built, Boosted):
        sizes = replace(sizes, rounds=built.rounds)
        todo = round_work(cfg, sizes, built)
        todo.alerts = alerts
    elif isinstance(built, nn.Module):
        todo = work(cfg, sizes, built, chosen.torch_device())
        todo.alerts = alerts
        if chosen.select == "main" and not reaches_main(chosen, todo):
            raise RequestError(
                f"trainer.max_epochs={chosen.max_epochs}: the schedule's warmup and blend leave "
                "no epoch at the final main weight; raise it, shorten schedule.warmup_epochs or "
                "schedule.blend_epochs, or set trainer.select=any"
            )
    return Prepared(data.identity(), sizes, built, todo, costs, allowed, alerts, rule)


def model(cfg: DictConfig, sizes: Sizes) -> Model:
    """The model, with initial weights drawn from stream ``init`` and its output bias set to the
    training prior."""
    splits = sizes.splits
    _check_dimensions(cfg, splits)
    with drawing_from(cfg.seed, "init"):
        built = unfitted(cfg, sizes.model_facts(model_parameters(cfg)))
        if isinstance(built, nn.Module):
            _try_network(built, splits)
    if isinstance(built, Estimator | Boosted):
        if not isinstance(sizes.sampler, Natural):
            raise RequestError(
                f"sampler: {type(built).__name__} fits all rows at once and draws no batches; "
                "use sampler=natural"
            )
        if splits.train.y.ndim != 1:
            raise RequestError(
                f"model: {cfg.model._target_} scores rows, data set {splits.name!r} has a target "
                f"at every step of a sequence; {INSTEAD[3]}"
            )
    if isinstance(built, nn.Module):
        counts = sizes.class_counts().double()
        set_output_prior(built, counts / counts.sum())
    return built


def model_parameters(cfg: DictConfig) -> dict[str, Any]:
    """The parameters of the model: the configuration's, and the defaults of those it leaves out."""
    leaf: Any = OmegaConf.to_container(cfg.model, resolve=True)
    allowed = list(cfg.allow_targets)
    takes = parameters(load_target("model._target_", leaf["_target_"], "model", allow=allowed))
    return {n: p.default for n, p in takes.items() if p.default is not p.empty} | leaf


def unfitted(cfg: DictConfig, facts: Mapping[str, Any]) -> Any:
    """The model of a configuration, before training; a classifier of scikit-learn as an estimator.

    Raises:
        RequestError: it is neither a torch module nor an estimator.
    """
    built = adapted(instantiate(cfg, "model", facts), facts["num_outputs"])
    if not isinstance(built, nn.Module | Estimator | Boosted):
        raise RequestError(
            f"model._target_: {cfg.model._target_} returns a {type(built).__name__}, expected a "
            "torch module, a classifier of scikit-learn, or fit(train, val, seed) and scores(x); "
            "see rarelab.models.Estimator"
        )
    return built


def _check_dimensions(cfg: DictConfig, splits: Splits) -> None:
    path, allowed = cfg.model._target_, list(cfg.allow_targets)
    model = load_target("model._target_", path, "model", allow=allowed)
    expected, found = getattr(model, "input_ndim", None), splits.train.x.ndim
    if expected not in (None, found):
        takes, has = (READS.get(n, f"rows of {n - 1} dimensions") for n in (expected, found))
        advice = f"; {INSTEAD[found]}" if found in INSTEAD else ""
        raise RequestError(
            f"model: {model.__name__} takes {takes}, data set {splits.name!r} has {has}{advice}"
        )


def _try_network(network: nn.Module, splits: Splits) -> None:
    """Score two rows, so that a shape that does not fit shows before training. Lazy layers take
    their sizes here."""
    rows, targets = splits.train.x[:2], splits.train.y[:2]
    name, training = type(network).__name__, network.training
    network.eval()
    try:
        with torch.no_grad():
            scores = network(rows)
    except RequestError:
        raise
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        shape = ["N", *splits.input_shape]
        raise RequestError(
            f"model: {name} cannot score rows {_listed(shape)} of data set {splits.name!r}: "
            f"{_first_line(error)}"
        ) from error
    network.train(training)
    found = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
    allowed = [(*targets.shape, splits.num_outputs)]
    allowed += [(len(targets),)] if splits.num_outputs == 1 and targets.ndim == 1 else []
    if found not in allowed:
        gave = _listed(["N", *found[1:]]) if isinstance(found, tuple) else f"a {found}"
        raise RequestError(
            f"model: {name} gives {gave} for rows {_listed(['N', *splits.input_shape])}, expected "
            f"logits {' or '.join(_listed(['N', *shape[1:]]) for shape in allowed)}"
        )


def _listed(shape: list[Any]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def loss(cfg: DictConfig, sizes: Sizes) -> nn.Module:
    """The scheduled loss, tried once on two rows so that a mismatch shows before training."""
    facts, shift = sizes.facts(), sizes.prior_shift()
    main = corrected(instantiate(cfg, "loss", facts), shift)
    warmup = corrected(instantiate(cfg, "warmup_loss", facts), shift)
    if not getattr(main, "needs_warmup", True):
        built = main  # a plain loss trains from the first step, whatever the default schedule says
    else:
        facts |= {"main_loss": main, "warmup_loss": warmup}
        facts["temp_decay_steps"] = max(1, sizes.total_steps - _warmup_steps(cfg, sizes))
        built = instantiate(cfg, "schedule", facts)
    if isinstance(built, Sampling):
        built.seed(stream_seed(cfg.seed, "loss"))
    assert isinstance(built, nn.Module)
    for name, part in (("warmup_loss", warmup), ("loss", main)):
        _try_loss(name, part, sizes.splits)
    return built


def work(cfg: DictConfig, sizes: Sizes, network: nn.Module, device: torch.device) -> Work:
    """Everything the loop needs, on its device."""
    objective = loss(cfg, sizes)
    if isinstance(network, Members):
        objective = MemberLosses(objective, network.k)
    network, objective = network.to(device), objective.to(device)
    parameters = [*network.parameters(), *objective.parameters()]
    optimizer = instantiate(cfg, "optimizer", {"params": parameters})
    lr_schedule = instantiate(cfg, "lr_schedule", sizes.facts() | {"optimizer": optimizer})
    return Work(
        model=network,
        loss=objective,
        optimizer=optimizer,
        lr_schedule=lr_schedule,
        train=_moved(sizes.splits.train, device),
        val=sizes.splits.val,
        rare_class=int(sizes.class_counts().argmin()),
        sampler=sizes.sampler,
    )


def round_work(cfg: DictConfig, sizes: Sizes, booster: Boosted) -> RoundWork:
    """Everything the loop over rounds needs, on the CPU.

    Raises:
        RequestError: the trainer has a patience of its own, or no round can be selected.
    """
    if sizes.trainer.patience is not None:
        raise RequestError(
            f"trainer.patience={sizes.trainer.patience}: {type(booster).__name__} counts rounds, "
            "not epochs; use model.early_stopping_round"
        )
    takes_loss = booster.takes_loss
    work = RoundWork(
        model=booster,
        loss=loss(cfg, sizes) if takes_loss else plain_loss(sizes.splits.num_outputs),
        train=sizes.splits.train,
        val=sizes.splits.val,
        rare_class=int(sizes.class_counts().argmin()),
        per_epoch=sizes.steps_per_epoch,
        seed=stream_seed(cfg.seed, "model"),
    )
    if sizes.trainer.select == "main" and not rounds_reach_main(work):
        raise RequestError(
            f"model.num_iterations={booster.rounds}: the schedule's warmup and blend leave no "
            "round at the final main weight; raise it, shorten schedule.warmup_epochs or "
            f"schedule.blend_epochs (an epoch is {work.per_epoch} rounds), or set "
            "trainer.select=any"
        )
    return work


def _moved(table: Table, device: torch.device) -> Table:
    weight = None if table.sample_weight is None else table.sample_weight.to(device)
    return Table(table.x.to(device), table.y.to(device), weight)


def _warmup_steps(cfg: DictConfig, sizes: Sizes) -> int:
    steps = cfg.schedule.get("warmup_steps")
    if steps is not None:
        return int(steps)
    return int(cfg.schedule.get("warmup_epochs") or 0) * sizes.steps_per_epoch


def _try_loss(key: str, part: nn.Module, splits: Splits) -> None:
    logits = torch.zeros(2, splits.num_outputs, requires_grad=True)
    targets = torch.tensor([0, len(splits.classes) - 1])
    weight = {} if splits.train.sample_weight is None else {"sample_weight": torch.ones(2)}
    tried = copy.deepcopy(part).eval()  # warnings about two rows' scores would be meaningless
    if isinstance(tried, Indexed):
        tried.on_train_batch_rows(torch.arange(2))
    try:
        value = tried(logits, targets, **weight)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise RequestError(
            f"{key}: {type(part).__name__} cannot train on the {splits.task} data set "
            f"{splits.name!r} ({_outputs(splits)}): {_first_line(error)}"
        ) from error
    if value.ndim:
        raise RequestError(
            f"{key}.reduction: training needs one number, {type(part).__name__} gave a tensor of "
            f"shape {list(value.shape)}; use reduction=mean"
        )


def _outputs(splits: Splits) -> str:
    if len(splits.classes) == 2:
        return "1 output"
    return f"{splits.num_outputs} outputs: {few(list(splits.classes))}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
