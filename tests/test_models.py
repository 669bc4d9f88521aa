"""Every model of the package: shapes, initial state, learning and refusals."""

import importlib
import inspect
import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from rarelab import boosting as boosting_room
from rarelab import models
from rarelab.errors import RarelabError, RequestError
from rarelab.models import trees

NETWORKS = {
    "linear": (models.Linear, {}),
    "mlp": (models.MLP, {"hidden": [16, 8], "dropout": 0.1, "activation": "gelu"}),
    "tabular_resnet": (models.TabularResNet, {"d_block": 16}),
    "ft_transformer": (models.FTTransformer, {"d_block": 16, "attention_n_heads": 2}),
    "tabm": (models.TabM, {"k": 3, "d_block": 16, "bin_edges": [[]] * 5, "one_hot": []}),
    "gru": (models.GRU, {"hidden_size": 8, "num_layers": 2, "dropout": 0.1}),
    "bidirectional gru": (models.GRU, {"hidden_size": 8, "bidirectional": True}),
    "cnn": (models.CNN, {"channels": [4, 8], "dropout": 0.1}),
}
FEATURES = 5
SHAPES = {2: (FEATURES,), 3: (7, FEATURES), 4: (1, 8, 8)}
"""Of one row, by the dimensions of what a network reads."""
LEAVES = sorted((Path(__file__).parent.parent / "conf" / "model").glob("*.yaml"))
LEAVES = [leaf for leaf in LEAVES if leaf.stem != "ensemble"]  # of recorded runs: test_ensemble.py


@dataclass(frozen=True)
class Split:
    x: Tensor
    y: Tensor
    sample_weight: Tensor | None = None


def build(name, num_outputs=1, **options):
    cls, small = NETWORKS[name]
    of_data = {"num_outputs": num_outputs, **of_rows(cls)}
    return cls(**{**of_data, **small, **options})


def of_rows(cls):
    """What a model is told about the rows."""
    images = "input_shape" in inspect.signature(cls).parameters
    return {"input_shape": SHAPES[4]} if images else {"in_features": FEATURES}


def inputs(model, n=12, seed=0):
    shape = (n, *SHAPES[model.input_ndim])
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def separable(n=400, seed=0, classes=2):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, FEATURES, generator=generator)
    return Split(x, ((x[:, 0] > 0.5).long() + (x[:, 1] > 0.5).long()).clamp(max=classes - 1))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_logits_have_one_column_per_output(name, num_outputs):
    model = build(name, num_outputs)
    x = inputs(model)
    logits, steps = model(x), x.shape[1:-1] if model.input_ndim == 3 else ()
    assert logits.shape == (len(x), *steps, num_outputs)
    assert logits.dtype == torch.float32
    assert model(x[:0]).shape == (0, *steps, num_outputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_initial_weights_depend_only_on_the_global_generator(name):
    def weights(seed):
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(build(name).parameters())

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_do_not_see_each_other_in_evaluation(name):
    model = build(name).eval()
    x = inputs(model)
    torch.testing.assert_close(model(x)[:4], model(x[:4]))


@pytest.mark.parametrize("name", NETWORKS)
def test_training_lowers_the_loss_on_a_separable_problem(name):
    torch.manual_seed(0)
    model = build(name)
    split = separable(n=160)
    x, y = split.x, split.y.float()
    if model.input_ndim == 3:
        x, y = x.reshape(20, 8, FEATURES), y.reshape(20, 8)
    if model.input_ndim == 4:  # the upper and the lower half of an image
        x = x[:, None, :2, None].repeat_interleave(4, dim=2).expand(-1, *SHAPES[4])
    loss = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

    def value():
        model.eval()
        with torch.no_grad():
            return loss(model(x)[..., 0], y).item()

    before = value()
    for _ in range(40):
        model.train()
        optimizer.zero_grad()
        loss(model(x)[..., 0], y).backward()
        optimizer.step()
    assert value() < 0.75 * before
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_output_bias_starts_at_the_prior(name):
    torch.manual_seed(0)
    model = build(name).eval()
    assert models.set_output_prior(model, torch.tensor([0.99, 0.01]))
    near = model(inputs(model, n=200)).sigmoid().mean().item()
    assert 0.003 < near < 0.03
    nn.init.zeros_(model.head.weight)
    torch.testing.assert_close(
        model(inputs(model)).sigmoid().flatten(),
        torch.full_like(model(inputs(model)), 0.01).flatten(),
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_multi_class_bias_is_the_log_prior(name):
    model = build(name, num_outputs=3).eval()
    prior = torch.tensor([0.7, 0.3, 0.0])
    assert models.set_output_prior(model, prior)
    nn.init.zeros_(model.head.weight)
    probabilities = model(inputs(model)).softmax(dim=-1)
    torch.testing.assert_close(probabilities, prior.expand_as(probabilities), atol=1e-6, rtol=1e-5)
    assert bool(model.head.bias.isfinite().all())


@pytest.mark.parametrize("name", NETWORKS)
def test_prior_bias_can_be_switched_off(name):
    model = build(name, prior_bias=False)
    before = model.head.bias.detach().clone()
    assert not models.set_output_prior(model, torch.tensor([0.99, 0.01]))
    assert torch.equal(model.head.bias, before)


def test_a_model_without_a_head_keeps_its_weights():
    assert not models.set_output_prior(nn.Linear(3, 1), torch.tensor([0.9, 0.1]))


@pytest.mark.parametrize(
    ("prior", "message"),
    [([0.5, 0.3, 0.2], "expected 2 class frequencies, found 3"), ([0.5, 0.2], "sum to 1")],
)
def test_a_mismatched_prior_is_refused(prior, message):
    with pytest.raises(RequestError, match=message):
        models.set_output_prior(build("mlp"), torch.tensor(prior))


@pytest.mark.parametrize("name", NETWORKS)
def test_another_input_shape_is_refused_in_one_line(name):
    model = build(name)
    other = inputs(model)[None] if model.input_ndim == 2 else inputs(model).flatten(0, 1)
    with pytest.raises(RequestError, match=r"choose a model for (rows|sequences)") as caught:
        model(other)
    assert "\n" not in str(caught.value)
    reads = r"\[N, 1, 8, 8\]" if model.input_ndim == 4 else f"F = {FEATURES}"
    with pytest.raises(RequestError, match=f"{reads}, found"):
        model(inputs(model)[..., :-1])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"hidden": [8, 0]}, r"mlp: hidden\[1\] must be a whole number >= 1, found 0"),
        ("mlp", {"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ("mlp", {"activation": "rel"}, "did you mean 'relu'"),
        ("linear", {"num_outputs": None}, "num_outputs must be a whole number"),
        ("tabular_resnet", {"n_blocks": 0}, "n_blocks"),
        ("tabular_resnet", {"d_hidden_multiplier": 0.0}, "d_hidden_multiplier"),
        ("ft_transformer", {"d_block": 15}, "multiple of attention_n_heads = 2, found 15"),
        ("gru", {"num_layers": 0}, "num_layers"),
        ("gru", {"dropout": -0.1}, "dropout"),
        ("cnn", {"channels": [8, 0]}, r"channels\[1\] must be a whole number"),
        ("cnn", {"kernel_size": 4}, "kernel_size must be odd, found 4"),
        ("cnn", {"channels": [8] * 4}, "4 convolutions halve an image of 8 x 8 pixels to nothing"),
        ("cnn", {"input_shape": [64]}, r"reads images \[C, H, W\], found \[64\]"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, options, message):
    with pytest.raises(RequestError, match=message):
        build(name, **options)


def test_a_resnet_trains_on_a_last_batch_of_one_row():
    model = build("tabular_resnet").train()
    x = inputs(model)
    model(x)
    model(x[:1]).sum().backward()
    assert all(m.training for m in model.modules())


def test_a_cnn_is_its_convolutions_pooled_and_a_linear_layer():
    torch.manual_seed(0)
    model = build("cnn", 3, input_shape=[2, 9, 6], kernel_size=5).eval()
    x = torch.randn(4, 2, 9, 6)
    found = x
    for layer in (part for part in model.body if isinstance(part, nn.Conv2d)):
        convolved = nn.functional.conv2d(found, layer.weight, layer.bias, padding=2)
        found = nn.functional.max_pool2d(convolved.clamp_min(0), 2)
    assert found.shape == (4, 8, 2, 1)
    expected = found.flatten(1) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(x), expected)


def test_a_forward_gru_never_looks_ahead():
    torch.manual_seed(0)
    x = torch.randn(2, 7, FEATURES)
    changed = x.clone()
    changed[:, 4:] = 9.0
    forward, both = build("gru").eval(), build("bidirectional gru").eval()
    assert torch.equal(forward(x)[:, :4], forward(changed)[:, :4])
    assert not torch.equal(both(x)[:, :4], both(changed)[:, :4])


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda path: path.stem)
def test_every_config_builds_its_class_and_names_every_parameter(leaf):
    values = yaml.safe_load(leaf.read_text(encoding="utf-8"))
    module, _, name = values.pop("_target_").rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    parameters = inspect.signature(cls).parameters
    assert list(values) == list(parameters)
    for name, value in values.items():
        default = parameters[name].default
        if default is inspect.Parameter.empty:
            assert value is None, name
        else:
            assert value == (list(default) if isinstance(default, tuple) else default), name
    if cls.__name__.startswith("CatBoost"):
        pytest.importorskip("catboost")  # an extra that only the slow tests install
    of_data = {**of_rows(cls), "num_outputs": 1}
    if values.get("num_embeddings"):
        of_data |= {"bin_edges": [[]] * FEATURES, "one_hot": []}
    built = cls(**(values | of_data))
    assert built.input_ndim in SHAPES


def test_every_model_has_a_config():
    targets = {yaml.safe_load(leaf.read_text(encoding="utf-8"))["_target_"] for leaf in LEAVES}
    for room in (models, boosting_room):
        classes = {name for name in room.__all__ if hasattr(getattr(room, name), "input_ndim")}
        named = {target for target in targets if target.startswith(f"{room.__name__}.")}
        assert named == {f"{room.__name__}.{name}" for name in classes}
        targets -= named
    assert not targets


def test_every_network_is_tested():
    """The tests above run on every network in the list."""
    networks = {
        made
        for name in models.__all__
        if isinstance(made := getattr(models, name), type) and issubclass(made, nn.Module)
    }
    assert networks == {cls for cls, _ in NETWORKS.values()}


def boosting(num_outputs=1, **options):
    options = {"max_iter": 30, "learning_rate": 0.2, "min_samples_leaf": 5, **options}
    return models.HistGradientBoosting(FEATURES, num_outputs, **options)


def test_boosting_is_an_estimator_and_a_network_is_not():
    assert isinstance(boosting(), models.Estimator)
    assert not isinstance(build("mlp"), models.Estimator)


def test_boosting_gives_log_odds_that_separate():
    model, train, val = boosting(), separable(seed=1), separable(seed=2)
    model.fit(train, val, seed=0)
    scores = model.scores(val.x)
    assert scores.shape == (len(val.x), 1) and scores.dtype == torch.float32
    assert bool(((scores[:, 0] > 0) == (val.y == 1)).double().mean() > 0.95)
    probabilities = model.booster.predict_proba(val.x.numpy())[:, 1]
    np.testing.assert_allclose(scores[:, 0].sigmoid().numpy(), probabilities, atol=1e-6)


def test_boosting_is_determined_by_its_seed():
    train, val = separable(seed=1), separable(seed=2)

    def scores(seed):
        model = boosting(max_features=0.4)
        model.fit(train, val, seed=seed)
        return model.scores(val.x)

    assert torch.equal(scores(0), scores(0))
    assert not torch.equal(scores(0), scores(1))


def test_boosting_stops_early_on_the_validation_split():
    train = separable(seed=1)
    generator = torch.Generator().manual_seed(3)
    noise = Split(train.x, torch.randint(0, 2, train.y.shape, generator=generator))
    stopped, whole = boosting(n_iter_no_change=3), boosting(n_iter_no_change=0)
    stopped.fit(noise, separable(seed=2), seed=0)
    whole.fit(noise, separable(seed=2), seed=0)
    assert stopped.booster.n_iter_ < whole.booster.n_iter_ == 30


@pytest.mark.parametrize("weighted_val", [False, True])
def test_boosting_respects_sample_weights(weighted_val):
    split = separable(seed=1)
    weight = torch.where(split.y == 1, 20.0, 1.0)
    plain, weighted = boosting(max_iter=5), boosting(max_iter=5)
    val = separable(seed=2)
    plain.fit(split, val, seed=0)
    heavy = Split(val.x, val.y, torch.where(val.y == 1, 20.0, 1.0) if weighted_val else None)
    weighted.fit(Split(split.x, split.y, weight), heavy, seed=0)
    assert bool(weighted.scores(val.x).mean() > plain.scores(val.x).mean() + 0.5)


@pytest.mark.parametrize("present", [2, 3])
def test_boosting_keeps_a_column_for_an_unseen_class(present):
    model, train = boosting(num_outputs=4), separable(seed=1, classes=present)
    val = separable(seed=2, classes=3)
    model.fit(train, Split(val.x, torch.where(val.x[:, 4] > 2, 3, val.y)), seed=0)
    scores = model.scores(train.x)
    assert scores.shape == (len(train.x), 4)
    probabilities = scores.double().softmax(dim=1)
    expected = model.booster.predict_proba(train.x.numpy())
    np.testing.assert_allclose(probabilities[:, :present].numpy(), expected, atol=1e-6)
    assert bool((probabilities[:, present:] < 1e-6).all())


def test_boosting_accepts_missing_values():
    model, split = boosting(), separable(seed=1)
    x = split.x.clone()
    x[::7, 0] = math.nan
    model.fit(Split(x, split.y), Split(x, split.y), seed=0)
    assert bool(model.scores(x).isfinite().all())


@pytest.mark.parametrize(("num_outputs", "classes"), [(1, 2), (4, 3)])
def test_boosting_as_plain_arrays_gives_bit_identical_scores(num_outputs, classes):
    fitted, split = boosting(num_outputs), separable(seed=1, classes=classes)
    x = split.x.clone()
    x[::7, 0] = math.nan
    fitted.fit(Split(x, split.y), Split(x, split.y), seed=0)
    again = boosting(num_outputs)
    again.load_state(fitted.state())
    assert len(fitted.scores(x).unique()) > 20
    assert torch.equal(again.scores(x), fitted.scores(x))


def test_boosting_refuses_sequences_and_scoring_before_the_fit():
    sequences = torch.zeros(4, 3, FEATURES)
    with pytest.raises(RequestError, match="choose a model for sequences"):
        boosting().fit(Split(sequences, torch.zeros(4, 3).long()), separable(), seed=0)
    with pytest.raises(RarelabError, match="before the fit"):
        boosting().scores(torch.zeros(2, FEATURES))


@pytest.mark.parametrize(
    "options", [{"learning_rate": 0.0}, {"max_leaf_nodes": 1}, {"max_features": 1.5}]
)
def test_boosting_refuses_values_out_of_range(options):
    with pytest.raises(RequestError, match=next(iter(options))):
        boosting(**options)


def test_tree_reading_is_pinned_to_a_scikit_learn_release() -> None:
    """On a new release, check that scores are bit-identical, then update MADE_FOR."""
    assert version("scikit-learn").startswith(trees.MADE_FOR)
    with pytest.raises(RarelabError, match=r"^scikit-learn .*expected its trees as release 1\.9"):
        trees.PlainTrees.of(SimpleNamespace(_predictors=[[SimpleNamespace(nodes=np.zeros(3))]]))
    with pytest.raises(RarelabError, match="has no attribute '_predictors'"):
        trees.PlainTrees.of(SimpleNamespace())
