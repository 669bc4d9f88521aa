"""Embeddings of numbers: bins from the training rows, the formula, and what is passed on."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rtdl_num_embeddings
import torch

from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.config.signature import signature
from rarelab.errors import RequestError
from rarelab.models import MLP, TabM, TabularResNet
from rarelab.models.bins import bin_edges
from rarelab.models.embeddings import Embeddings, LevelEmbeddings, Levels, Numbers
from reference import bin_edges_by_value

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
    (expected,) = rtdl_num_embeddings.compute_bins(x[:, :1], n_bins=16)
    torch.testing.assert_close(torch.tensor(found[0]), expected)
    assert found[1] == found[3] == []


def test_a_common_value_takes_one_edge_and_leaves_the_others_to_the_rest() -> None:
    x = torch.zeros(10_000, 1)
    x[:300, 0] = torch.arange(1, 301).float()
    (found,) = bin_edges(x, 48)
    np.testing.assert_allclose(found, [0, *np.linspace(1, 300, 48)], rtol=1e-6)
    (authors,) = rtdl_num_embeddings.compute_bins(x, n_bins=48)
    assert len(authors) == 3


def test_a_few_values_are_the_edges() -> None:
    x = torch.tensor([0.0, 1, 2, 5]).repeat_interleave(torch.tensor([900, 3, 60, 1]))
    assert bin_edges(x.unsqueeze(1), 48) == [[0, 1, 2, 5]]


@pytest.mark.parametrize("most", [2, 3, 7, 48])
def test_bins_follow_their_rule_value_by_value(most: int) -> None:
    for seed in range(20):
        draw = np.random.default_rng(seed)
        counts = draw.integers(1, 40, size=draw.integers(3, 90)) ** draw.integers(1, 3)
        column = np.repeat(np.sort(draw.normal(size=len(counts))), counts)
        expected = bin_edges_by_value(column.tolist(), most)
        (found,) = bin_edges(torch.from_numpy(column).unsqueeze(1), most)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert len(found) <= most + 1


def test_bins_too_narrow_for_float32_are_merged() -> None:
    x = torch.linspace(0, 1, 100).unsqueeze(1).double()
    x[50:] = 1 + 1e-12 * x[50:]
    (found,) = bin_edges(torch.cat([x, x]), 48)
    assert np.diff(found).min() > 1e-6 and found[-1] == 1


def test_a_piecewise_linear_embedding_is_its_formula() -> None:
    x, torch_draw = rows(60), torch.Generator().manual_seed(1)
    edges = bin_edges(x, 6)
    layer = Embeddings(5, Numbers("piecewise_linear", 6, 3, edges), Levels())
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=torch_draw)
    inside = {
        name.removeprefix("numbers.embedded."): p.detach() for name, p in layer.named_parameters()
    }
    found = layer(x).detach().numpy()
    assert layer.widths == [3, 3, 3, 1, 1] and found.shape == (60, 11)
    np.testing.assert_array_equal(found[:, 9:], x[:, [1, 3]])
    for at, column in enumerate((0, 2, 4)):
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
    assert model.body[0].in_features == 3 * size + 2


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


def test_a_configuration_that_names_the_class_alone_has_its_embeddings() -> None:
    cfg, _ = compose_train([*SMALL, "model=tabm"])
    for name in [name for name in cfg.model if name != "_target_"]:
        del cfg.model[name]
    sizes = build.Sizes(build.dataset(cfg).splits(0), build.trainer(cfg))
    assert build.model(cfg, sizes).embed.widths == [16] * 20


def test_a_run_without_embeddings_keeps_its_signature() -> None:
    keys = ("num_embeddings", "embedding_bins", "embedding_size", "bin_edges")
    keys += ("cat_embeddings", "one_hot")
    cfg, _ = compose_train(["model=mlp"])
    earlier = cfg.copy()
    earlier.model = {name: value for name, value in cfg.model.items() if name not in keys}
    assert signature(earlier) == signature(cfg)
    asked = [compose_train(["model=mlp", WITH, more])[0] for more in ("seed=0", "seed=1")]
    assert len({signature(cfg), *map(signature, asked)}) == 3


def levels(rows: int = 40, seed: int = 0) -> tuple[torch.Tensor, list[list[int]]]:
    """One-hot features of two columns, with 3 and 2 levels, around a number: [N, 6]."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.zeros(rows, 6)
    x[:, 0] = torch.randn(rows, generator=draw)
    for block in ([1, 2, 4], [3, 5]):
        place = torch.randint(len(block), (rows,), generator=draw)
        x[torch.arange(rows), torch.tensor(block)[place]] = 1
    return x, [[1, 2, 4], [3, 5]]


def test_the_levels_of_a_column_are_looked_up_in_its_table() -> None:
    x, blocks = levels()
    x[0, 1:] = 0  # levels that training did not see
    layer = Embeddings(6, Numbers(), Levels(2, blocks))
    found = layer(x).detach()
    assert layer.widths == [2, 2, 1] and torch.equal(found[:, 4], x[:, 0])
    tables = [table.detach() for table in layer.levels.tables]
    assert [tuple(table.shape) for table in tables] == [(3, 2), (2, 2)]
    for row in range(len(x)):
        for at, block in enumerate(blocks):
            place = [level for level, feature in enumerate(block) if x[row, feature]]
            expected = tables[at][place[0]] if place else torch.zeros(2)
            assert torch.equal(found[row, 2 * at : 2 * at + 2], expected)


def test_a_vector_is_no_longer_than_its_column_has_levels() -> None:
    assert LevelEmbeddings([2, 3, 40, 90], "auto").widths == [1, 2, 16, 16]
    assert LevelEmbeddings([2, 3, 40, 90], 8).widths == [2, 3, 8, 8]


@pytest.mark.parametrize("model", [MLP, TabularResNet, TabM])
def test_every_network_embeds_numbers_and_levels_side_by_side(model: type) -> None:
    x, blocks = levels()
    numbers = {"num_embeddings": "piecewise_linear", "bin_edges": bin_edges(x, 8)}
    network = model(6, 1, **numbers, cat_embeddings="auto", one_hot=blocks).eval()
    assert network.embed.widths == [16, 2, 1]
    network(x).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.embed.levels.parameters())


def test_the_levels_are_those_of_the_columns_of_text(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "shop": draw.choice(["a", "b", "c"], 200),
            "amount": draw.normal(size=200),
            "many": draw.choice([f"m{i}" for i in range(9)], 200),
            "always": "same",
            "hit": draw.integers(0, 2, 200),
        }
    )
    frame.loc[::7, "amount"] = np.nan
    frame.to_csv(tmp_path / "rows.csv", index=False)
    asked = ["dataset=file", f"dataset.path={tmp_path / 'rows.csv'}", "dataset.target=hit"]
    asked += ["dataset.max_categories=4", "model.cat_embeddings=auto"]
    for more in ([], ["dataset.high_cardinality=target"]):
        cfg, _ = compose_train([*asked, *more])
        splits = build.dataset(cfg).splits(0)
        facts = build.Sizes(splits, build.trainer(cfg)).model_facts(cfg.model)
        named = [[splits.features[i] for i in block] for block in facts["one_hot"]]
        shops = [f"shop={name}" for name in "abc"]
        assert named[0] == shops and len(named) == (1 if more else 2)
        for block in facts["one_hot"]:
            assert (splits.train.x[:, block].sum(dim=1) == 1).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"embedding_bins": 1}, "embedding_bins=1: expected a whole number of at least 2"),
        ({"num_embeddings": "periodi"}, "did you mean 'periodic'"),
        ({"num_embeddings": "periodic"}, "a list for each of the 5 columns, found nothing"),
        ({"num_embeddings": "periodic", "bin_edges": [[]]}, "found 1 lists"),
        ({"embedding_size": 8}, "embedding_size=8: nothing is embedded; choose model.num_embed"),
        ({"cat_embeddings": 4}, "needs one_hot, the features that are the levels of each"),
        ({"cat_embeddings": 0, "one_hot": []}, "cat_embeddings must be a whole number >= 1"),
        ({"cat_embeddings": 2, "one_hot": [[0, 1], [1, 2]]}, "must name a feature once"),
        ({"cat_embeddings": 2, "one_hot": [[4, 5]]}, "by its number below 5"),
        ({"one_hot": [[0, 1]]}, "nothing is embedded; choose model.cat_embeddings, such as auto"),
        ({"embedding_size": 0}, "embedding_size must be a whole number >= 1, found 0"),
    ],
)
def test_wrong_values_are_refused_by_name(options: dict, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        MLP(5, 1, **options)
