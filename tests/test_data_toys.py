"""The generated data sets follow the distributions stated in their docstrings."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from torch.nn.functional import binary_cross_entropy_with_logits

from rarelab.data.contested_top import ContestedTop
from rarelab.data.generated import stratified_draw, tabular_splits
from rarelab.data.longtail_toy import LongtailToy
from rarelab.data.sequence_toy import SequenceToy
from rarelab.data.splits import Dataset
from rarelab.data.toy import Toy
from rarelab.errors import RequestError
from rarelab.metrics import average_precision
from rarelab.models.gru import GRU

SMALL_TOP: dict[str, Any] = {"n_train": 20_000, "n_val": 8_000, "n_test": 20_000}
SMALL = [
    Toy(n_samples=4_000),
    ContestedTop(**SMALL_TOP),
    SequenceToy(n_sequences=600),
    LongtailToy(n_samples=4_000),
]


@pytest.mark.parametrize("dataset", SMALL, ids=lambda d: type(d).__name__)
def test_the_seed_draws_the_data(dataset: Dataset) -> None:
    assert isinstance(dataset, Dataset)
    first, again, other = (dataset.splits(seed) for seed in (3, 3, 4))
    assert first.digest == again.digest != other.digest
    assert "\n" not in dataset.identity() and dataset.identity() == dataset.identity()


def test_toy_has_the_requested_rate_and_train_is_standardised() -> None:
    splits = Toy().splits(0)
    assert splits.prevalence == pytest.approx({"train": 0.005, "val": 0.005, "test": 0.005})
    assert (splits.in_features, splits.num_outputs, splits.notes) == (20, 1, ())
    assert torch.allclose(splits.train.x.mean(0), torch.zeros(20), atol=1e-4)
    assert torch.allclose(splits.train.x.std(0), torch.ones(20), atol=1e-3)
    easier = Toy(pos_rate=0.05).splits(0)
    assert easier.prevalence["test"] == pytest.approx(0.05)


def test_label_noise_hides_training_positives_and_nothing_else() -> None:
    clean, some, more = (Toy(label_noise=share).splits(3) for share in (0, 0.1, 0.2))
    hidden = []
    for noisy, share in ((some, 0.1), (more, 0.2)):
        assert torch.equal(noisy.train.x, clean.train.x)
        for table, true in ((noisy.val, clean.val), (noisy.test, clean.test)):
            assert torch.equal(table.y, true.y) and torch.equal(table.x, true.x)
        changed = torch.nonzero(noisy.train.y != clean.train.y)[:, 0]
        assert len(changed) == round(share * int(clean.train.y.sum()))
        assert clean.train.y[changed].all() and not noisy.train.y[changed].any()
        hidden.append(set(changed.tolist()))
    assert hidden[0] < hidden[1]
    other = Toy(label_noise=0.1).splits(4).train.y
    assert int(other.sum()) == int(some.train.y.sum()) and not torch.equal(other, some.train.y)
    small = Toy(n_samples=2000, pos_rate=0.02)
    arguments = {k: v for k, v in asdict(small).items() if k not in ("pos_rate", "label_noise")}
    x, y = map(np.asarray, make_classification(**arguments, weights=[0.98, 0.02], random_state=3))
    before = tabular_splits(stratified_draw(x, y, 3), name="toy", numeric="standard")
    assert small.splits(3).digest == before.digest


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"pos_rate": 0}, "dataset.pos_rate=0"),
        ({"pos_rate": 1.5}, "dataset.pos_rate=1.5"),
        ({"label_noise": 1.0}, "dataset.label_noise=1.0"),
        ({"n_samples": 100}, "dataset.n_samples=100"),
        ({"n_features": 3}, "dataset.n_features=3"),
        ({"n_informative": 1, "n_features": 6}, "dataset.n_informative=1"),
    ],
)
def test_toy_refuses_what_cannot_be_drawn(arguments: dict, key: str) -> None:
    with pytest.raises(RequestError, match=f"^{key} is"):
        Toy(**arguments)


# Tolerances are 5 standard errors of a mean of n draws with variance at most 1 + 1.7².
@pytest.mark.parametrize("cue", ["linear", "product", "radial"])
def test_contested_top_follows_its_distribution(cue) -> None:
    dataset = ContestedTop(cue, pos_rate=0.02)
    n = 200_000
    x, y, decoy = dataset.draw(n, np.random.default_rng(0))
    positive = y == 1
    assert positive.mean() == pytest.approx(0.02, abs=5 * (0.02 / n) ** 0.5)
    assert decoy[~positive].mean() == pytest.approx(0.012, abs=5 * (0.012 / n) ** 0.5)
    assert not (decoy & positive).any()
    plain = ~positive & ~decoy
    off = 5 * (3.9 / positive.sum()) ** 0.5

    def mean(rows, values):
        return values[rows].mean(axis=0)

    for rows, shift in ((positive, 2.5), (decoy, 2.5), (plain, 0.0)):
        assert mean(rows, x[:, :3]) == pytest.approx(np.full(3, shift), abs=off)
    for rows in (decoy, plain):
        assert mean(rows, x[:, 5:7]) == pytest.approx(np.zeros(2), abs=off)
        assert mean(rows, x[:, 5:7] ** 2) == pytest.approx(np.ones(2), abs=off)
    others = np.r_[3:5, 7:20]
    assert mean(positive, x[:, others]) == pytest.approx(np.zeros(15), abs=off)
    # Each cue shifts the means, the product, or only the distance from the origin.
    means, product = {"linear": (1.7, 1.7**2), "product": (0, 1.7**2), "radial": (0, 0)}[cue]
    assert mean(positive, x[:, 5:7]) == pytest.approx(np.full(2, means), abs=off)
    assert mean(positive, x[:, 5] * x[:, 6]) == pytest.approx(product, abs=3 * off)
    assert mean(positive, x[:, 5:7] ** 2) == pytest.approx(np.full(2, 1 + 1.7**2), abs=3 * off)


def test_contested_top_draws_its_tables_independently_at_the_stated_sizes() -> None:
    splits = ContestedTop().splits(0)
    assert [len(table) for _, table in splits.tables()] == [150_000, 50_000, 300_000]
    assert splits.prevalence["test"] == pytest.approx(0.0015, abs=5 * (0.0015 / 3e5) ** 0.5)
    assert not torch.equal(splits.train.x[:1000], splits.val.x[:1000])


def test_sequence_toy_follows_its_distribution() -> None:
    dataset = SequenceToy(n_features=3)
    n = 20_000
    x, y = dataset.draw(n, np.random.default_rng(0))
    length = (y != -100).sum(axis=1)
    assert (length.min(), length.max()) == (10, 40)
    assert length.mean() == pytest.approx(25, abs=0.4)
    steps = np.arange(40)
    padded = steps >= length[:, None]
    assert ((y == -100) == padded).all() and (x[padded] == 0).all()
    rate = np.ma.masked_array(y, padded).mean(axis=0)
    law = 0.04 * (1 - (1 - 0.04) ** np.minimum(steps, 5))
    assert np.asarray(rate) == pytest.approx(law, abs=5 * (0.0075 / 5_000) ** 0.5)
    assert (y[:, 0] == 0).all()
    # A positive step has a trigger now (feature 1) and was armed earlier (feature 0).
    row, step = np.nonzero(np.where(steps >= 5, y == 1, False))
    now = x[row, step]
    assert now[:, 1].mean() == pytest.approx(5, abs=0.2)
    armed_before = np.stack([x[row, step - k, 0] for k in range(1, 6)]).max(axis=0)
    assert armed_before.mean() > 4.5


def test_a_gru_learns_the_sequences_and_a_memoryless_model_does_not() -> None:
    splits = SequenceToy(n_sequences=2000).splits(0)
    scores = {}
    for name in ("gru", "step"):
        torch.manual_seed(0)
        model = (
            GRU(6, 1)
            if name == "gru"
            else torch.nn.Sequential(
                torch.nn.Linear(6, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
            )
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(8):
            for rows in torch.randperm(len(splits.train)).split(64):
                logits, y = model(splits.train.x[rows]).flatten(), splits.train.y[rows].flatten()
                live = y != -100
                loss = binary_cross_entropy_with_logits(logits[live], y[live].float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            logits, y = model(splits.test.x).flatten(), splits.test.y.flatten()
        scores[name] = average_precision(logits[y != -100], y[y != -100] == 1)
    assert scores["gru"] > 0.6 > 0.35 > scores["step"]


def test_longtail_toy_follows_its_distribution() -> None:
    dataset = LongtailToy()
    rates = dataset.rates()
    assert rates == pytest.approx([0.655, 0.227, 0.0786, 0.0272, 0.0094, 0.0033], rel=0.02)
    assert rates[0] / rates[-1] == pytest.approx(200)
    x, y = dataset.draw(np.random.default_rng(0))
    assert np.bincount(y) == pytest.approx(40_000 * rates, abs=0.5)
    for c, count in enumerate(np.bincount(y)):
        mean, variance = x[y == c].mean(axis=0), x[y == c].var(axis=0)
        bias = 20 / count  # E|mean|² = |m|² + F / n
        assert mean @ mean == pytest.approx(9 + bias, abs=5 * 6 / count**0.5)
        assert variance.mean() == pytest.approx(1, abs=5 * (2 / 20 / count) ** 0.5 + 1 / count)
    splits = dataset.splits(0)
    assert (splits.task, splits.num_outputs, splits.notes) == ("multiclass", 6, ())
    assert splits.prevalence["val"]["c5"] == pytest.approx(rates[5], rel=0.05)
