"""Invalid requests and their exact one-line answers: exit code 2, and nothing is written."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import rarelab
import wrong_files
from rarelab.cli import main
from rarelab.data.splits import Splits, Table
from rarelab.errors import RequestError

pytestmark = pytest.mark.as_users_do

TABLE = (Path(__file__).parent / "wrong_requests.txt").read_text(encoding="utf-8")
REQUESTS = re.findall(r"^\$ rarelab (.+)\n(.+)$", TABLE, flags=re.MULTILINE)
"""Every request in ``wrong_requests.txt``, with the line below it."""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    wrong_files.write(folder)
    leaves = folder / "conf" / "loss"
    leaves.mkdir(parents=True)
    (leaves / "slip.yaml").write_text("_target_: my.Hinge\nmargin: [1\n", encoding="utf-8")
    (leaves / "nothing.yaml").write_text("# a leaf that was never written\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(("request_", "answer"), REQUESTS, ids=[r for r, _ in REQUESTS])
def test_an_invalid_request_gets_its_exact_answer(
    tables, home, capsys, monkeypatch, request_: str, answer: str
) -> None:
    monkeypatch.chdir(tables)
    before = sorted(tables.iterdir())
    assert main(shlex.split(request_)) == 2
    printed = capsys.readouterr()
    assert printed.err == f"error: {answer}\n"
    assert not home.exists()
    assert sorted(tables.iterdir()) == before


def test_the_table_is_long_and_has_no_duplicates() -> None:
    assert len(REQUESTS) >= 60
    assert len({request for request, _ in REQUESTS}) == len(REQUESTS)
    words = {part.rpartition("=")[2] for request, _ in REQUESTS for part in request.split()}
    assert words >= set(wrong_files.FILES)


def _table(x: np.ndarray) -> Table:
    return Table(torch.from_numpy(x.astype(np.float32)), torch.arange(len(x)) % 2)


@pytest.mark.parametrize(
    ("value", "where", "answer"),
    [
        (np.nan, "train", "column 'a' has 1 NaN or infinite values in train: replace them"),
        (np.inf, "val", "column 'a' has 1 NaN or infinite values in val: replace them"),
        (-np.inf, "test", "column 'a' has 1 NaN or infinite values in test: replace them"),
    ],
)
def test_non_finite_features_are_refused(value, where, answer) -> None:
    tables = {name: _table(np.ones((6, 2))) for name in ("train", "val", "test")}
    tables[where].x[3, 0] = value
    with pytest.raises(RequestError, match=answer):
        Splits(**tables, classes=("0", "1"), features=("a", "b"), digest="", name="mine")


def test_non_finite_columns_are_counted_in_sequences_too() -> None:
    x = torch.ones(4, 3, 5)
    x[0, 1, 2] = x[1, 2, 2] = x[3, 0, 4] = float("nan")
    bad = Table(x, torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(RequestError, match=r"column 'c' has 2 NaN .* \(and 1 other columns have"):
        Splits(bad, bad, bad, ("0", "1"), features=tuple("abcde"), digest="", name="mine")


def test_a_users_own_data_set_is_checked_too(tmp_path, home, monkeypatch) -> None:
    (tmp_path / "my_data.py").write_text(
        "import torch\nfrom rarelab.data.splits import Table, make_splits\n\n\nclass Mine:\n"
        "    def identity(self):\n        return 'mine'\n\n"
        "    def splits(self, seed):\n"
        "        x = torch.randn(90, 2)\n        x[7, 1] = float('inf')\n"
        "        t = Table(x, torch.arange(90) % 2)\n"
        "        return make_splits(t, t, t, classes=('n', 'p'), features=('a', 'b'), name='own')\n"
    )
    leaf = tmp_path / "conf" / "dataset" / "mine.yaml"
    leaf.parent.mkdir(parents=True)
    OmegaConf.save({"_target_": "my_data.Mine"}, leaf)
    monkeypatch.chdir(tmp_path)
    request = ["--config-dir", "conf", "dataset=mine", "allow_targets=[my_data]"]
    assert main(["train", *request]) == 2
    assert not home.exists()


def test_python_raises_the_error_that_the_command_prints(home) -> None:
    with pytest.raises(RequestError) as refused:
        rarelab.train(["trainer.max_epochs=0"])
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
    assert not home.exists()
