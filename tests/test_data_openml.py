"""OpenML: the conversion of its tables, and the error if it is unreachable."""

from pathlib import Path
from urllib.error import URLError

import pandas as pd
import pytest
import sklearn.datasets
from sklearn.utils import Bunch

from rarelab.data.openml import OpenML
from rarelab.errors import RarelabError, RequestError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict:
    """The arguments passed to a fake ``fetch_openml``, which returns a small table."""
    monkeypatch.setenv("RARELAB_DATA", str(tmp_path))
    seen: dict = {}
    frame = pd.DataFrame(
        {
            "amount": [float(i) for i in range(60)],
            "kind": pd.Categorical(["a", "b", "c"] * 20),
            "level": pd.Categorical(["1", "2"] * 30),
            "Class": pd.Categorical(["1", "0", "0", "0"] * 15),
        }
    )

    def fetch(**arguments) -> Bunch:
        seen.update(arguments)
        return Bunch(frame=frame, target_names=["Class"])

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    return seen


def test_a_set_by_number(asked: dict, tmp_path: Path) -> None:
    dataset = OpenML(data_id=1597)
    splits = dataset.splits(0)
    assert asked["data_id"] == 1597 and asked["data_home"] == str(tmp_path / "openml")
    assert splits.features == ("amount", "kind=a", "kind=b", "kind=c", "level=1", "level=2")
    assert splits.classes == ("0", "1") and splits.prevalence["train"] == pytest.approx(0.25)
    assert dataset.identity() == splits.name == "openml(data_id=1597)"


def test_a_set_by_name_with_another_target(asked: dict) -> None:
    splits = OpenML(name="credit", version=2, target="kind", drop=["Class"]).splits(0)
    assert (asked["name"], asked["version"]) == ("credit", 2) and "data_id" not in asked
    assert splits.classes == ("a", "b", "c") and "amount" in splits.features


def test_no_network_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(**arguments) -> Bunch:
        raise URLError("no route to host")

    monkeypatch.setenv("RARELAB_DATA", str(tmp_path))
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fail)
    with pytest.raises(RarelabError) as error:
        OpenML(data_id=1597).splits(0)
    assert "openml(data_id=1597) cannot be fetched" in str(error.value)
    assert "no route to host" in str(error.value) and "\n" not in str(error.value)
    assert error.value.exit_code == 1


@pytest.mark.parametrize("arguments", [{}, {"data_id": 1, "name": "x"}])
def test_a_number_or_a_name_is_needed(arguments: dict) -> None:
    with pytest.raises(RequestError, match=r"dataset.data_id=NUMBER or dataset.name=NAME"):
        OpenML(**arguments)
