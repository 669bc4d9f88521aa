"""Embeddings of numbers: bins from the training rows, the formula, and what is passed on."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import rtdl_num_embeddings
import torch

from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.config.signature import signature
from rarelab.errors import RequestError
from rarelab.models import MLP
from rarelab.models.embeddings import NumberEmbeddings, bin_edges

WITH = "model.num_embeddings=piecewise_linear"
SMALL = ["dataset.n_samples=1500", "dataset.pos_rate=0.05"]


def rows(n: int = 500, seed: int = 0) -> torch.Tensor:
    """Columns: numbers, zeros and ones, numbers, one value, a number that is nearly always 0."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=draw)
    x[:, 1] = (x[:, 1] > 0.5).float()
    x[:, 2] = x[:, 2].exp().round()
    x[:, 3] = 2.0
    x[:, 4].abs_()
    x[3:, 4] = 0.0
    return x


def test_the_bins_are_those_of_the_embeddings_authors() -> None:
    x = rows()
    found = bin_edges(x, 16)
    expected = rtdl_num_embeddings.compute_bins(x[:, [0, 2]], n_bins=16)
    for mine, theirs in zip([found[0], found[2]], expected, strict=True):
        torch.testing.assert_close(torch.tensor(mine), theirs)
    assert found[1] == found[3] == found[4] == []
    assert len(found[0]) == 17 > len(found[2])  # equal quantiles are one edge


def test_bins_too_narrow_for_float32_are_merged() -> None:
    x = torch.linspace(0, 1, 100).unsqueeze(1).double()
    x[50:] = 1 + 1e-12 * x[50:]
    (found,) = bin_edges(torch.cat([x, x]), 48)
    assert np.diff(found).min() > 1e-6 and found[-1] == 1


def test_a_piecewise_linear_embedding_is_its_formula() -> None:
    x, torch_draw = rows(60), torch.Generator().manual_seed(1)
    edges = bin_edges(x, 6)
    layer = NumberEmbeddings("piecewise_linear", edges, size=3)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=torch_draw)
    inside = {name.removeprefix("embedded."): p.detach() for name, p in layer.named_parameters()}
    found = layer(x).detach().numpy()
    assert layer.widths == [3, 3, 1, 1, 1] and found.shape == (60, 9)
    np.testing.assert_array_equal(found[:, 6:], x[:, [1, 3, 4]])
    for at, column in enumerate((0, 2)):
        for row in range(60):
            value, bins = x[row, column].item(), np.array(edges[column])
            share = [(value - a) / (b - a) for a, b in pairwise(bins)]
            share = [min(max(s, 0), 1) for s in share]
            weight = inside["linear.weight"][at].numpy()
            places = [*range(len(share) - 1), len(weight) - 1]  # the last bin stands last
            expected = sum(s * weight[place] for s, place in zip(share, places, strict=True))
            linear = inside["linear0.weight"][at] * value + inside["linear0.bias"][at]
            np.testing.assert_allclose(
                found[row, 3 * at : 3 * at + 3], linear.numpy() + expected, atol=2e-5
            )


@pytest.mark.parametrize("kind", ["piecewise_linear", "periodic"])
def test_a_model_is_rebuilt_from_its_arguments_and_weights(kind: str) -> None:
    x = rows()
    arguments = {"num_embeddings": kind, "bin_edges": bin_edges(x, 8), "embedding_bins": 8}
    model, again = (MLP(5, 1, **arguments) for _ in range(2))
    assert not torch.equal(model(x), again(x))
    again.load_state_dict(model.state_dict())
    assert torch.equal(model(x), again(x))
    size = {"piecewise_linear": 16, "periodic": 24}[kind]
    assert model.body[0].in_features == 2 * size + 3


def test_a_table_without_numbers_worth_embedding_is_passed_on() -> None:
    x = rows()[:, [1, 3]]
    model = MLP(2, 1, num_embeddings="periodic", bin_edges=bin_edges(x, 48))
    assert torch.equal(model.embed(x), x)


def test_bins_follow_from_the_training_rows_alone() -> None:
    cfg, _ = compose_train([*SMALL, WITH, "model.embedding_bins=10"])
    sizes = build.Sizes(build.dataset(cfg).splits(0), build.trainer(cfg))
    model = build.model(cfg, sizes)
    found = sizes.model_facts(cfg.model)["bin_edges"]
    assert found == bin_edges(sizes.splits.train.x, 10)
    assert model.embed.widths == [16] * 20
    val, test = sizes.splits.val, sizes.splits.test
    moved = replace(sizes.splits, val=replace(val, x=val.x + 9), test=replace(test, x=test.x - 9))
    assert replace(sizes, splits=moved).model_facts(cfg.model)["bin_edges"] == found


def test_a_run_without_embeddings_keeps_its_signature() -> None:
    keys = ("num_embeddings", "embedding_bins", "embedding_size", "bin_edges")
    cfg, _ = compose_train(["model=mlp"])
    earlier = cfg.copy()
    earlier.model = {name: value for name, value in cfg.model.items() if name not in keys}
    assert signature(earlier) == signature(cfg)
    asked = [compose_train(["model=mlp", WITH, more])[0] for more in ("seed=0", "seed=1")]
    assert len({signature(cfg), *map(signature, asked)}) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"embedding_bins": 1}, "embedding_bins=1: expected a whole number of at least 2"),
        ({"num_embeddings": "periodi"}, "did you mean 'periodic'"),
        ({"num_embeddings": "periodic"}, "a list for each of the 5 columns, found nothing"),
        ({"num_embeddings": "periodic", "bin_edges": [[]]}, "found 1 lists"),
        ({"embedding_size": 8}, "embedding_size=8: nothing is embedded; choose model.num_embed"),
        ({"embedding_size": 0}, "embedding_size must be a whole number >= 1, found 0"),
    ],
)
def test_wrong_values_are_refused_by_name(options: dict, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        MLP(5, 1, **options)
