"""CONTRIBUTING's file lists are complete: each kind is added by exactly the listed files."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COPIED = ("src", "conf", "experiments", "tests", "docs")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

LOSS_KERNEL = '''"""Half of a number."""

from torch import Tensor


def halved(value: Tensor) -> Tensor:
    """value / 2."""
    return value / 2
'''
LOSS_MODULE = '''"""Half of the cross-entropy."""

from torch import Tensor, nn

from rarelab.functional.new_loss import halved
from rarelab.losses.plain import BinaryCrossEntropy, CrossEntropy


class NewLoss(nn.Module):
    """Cross-entropy over two."""

    needs_warmup = False

    def __init__(self, num_classes: int, reduction: str = "mean", ignore_index: int = -100):
        super().__init__()
        options = {"reduction": reduction, "ignore_index": ignore_index}
        binary = num_classes == 1
        self.whole = (BinaryCrossEntropy if binary else CrossEntropy)(
            *([] if binary else [num_classes]), **options
        )

    def forward(self, logits: Tensor, targets: Tensor, *, sample_weight=None) -> Tensor:
        return halved(self.whole(logits, targets, sample_weight=sample_weight))
'''
LOSS_TEST = """import torch

from rarelab.functional.new_loss import halved
from reference import half


def test_the_new_loss_kernel_matches_its_formula():
    assert halved(torch.tensor(3.0)).item() == half(3.0)
"""
MODEL = '''"""Linear on clipped inputs."""

from typing import ClassVar

from torch import Tensor, nn

from rarelab.models.shapes import check_input, check_sizes


class NewModel(nn.Module):
    """Logits of x clipped to [-9, 9]."""

    input_ndim: ClassVar[int] = 2

    def __init__(self, in_features: int, num_outputs: int, prior_bias: bool = True) -> None:
        super().__init__()
        check_sizes("new_model", in_features=in_features, num_outputs=num_outputs)
        self.prior_bias = prior_bias
        self.head = nn.Linear(in_features, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, model="new_model", input_ndim=2, in_features=self.head.in_features)
        return self.head(x.clamp(-9, 9))
'''
DRAWN = '''"""One feature, and a threshold."""

from dataclasses import asdict, dataclass

import numpy as np

from rarelab.data.arguments import label_of


@dataclass(frozen=True)
class NewDrawn:
    """y = 1 where x > 1, x ~ N(0, 1)."""

    rows: int = 900

    def identity(self) -> str:
        return label_of("new_drawn", asdict(self))

    def splits(self, seed: int):
        from rarelab.data.generated import tabular_splits

        draw = np.random.default_rng(seed)
        tables = [draw.standard_normal((self.rows, 1), dtype=np.float32) for _ in range(3)]
        labelled = [(x, (x[:, 0] > 1).astype(np.int64)) for x in tables]
        return tabular_splits(labelled, name="new_drawn")
'''
DRAWN_TEST = """from rarelab.config import build
from rarelab.config.compose import compose_train


def test_the_new_drawn_set_follows_its_distribution():
    train = build.dataset(compose_train(["dataset=new_drawn"])[0]).splits(0).train
    assert bool(((train.x[:, 0] > train.x[train.y == 0].max()) == (train.y == 1)).all())
"""
STUDY = """# @package _global_
# Question: is it planned?
# Run:      rarelab train experiments=new_study
# Jobs:     4
# Expect:   four jobs
defaults:
  - override /model: linear

hydra:
  sweeper:
    params:
      loss: bce,smooth_ap
      seed: range(2)
"""


def is_new(content: str) -> Callable[[str], str]:
    """The content of a new file."""
    return lambda before: content if not before else pytest.fail("the file already exists")


def after(anchor: str, line: str) -> Callable[[str], str]:
    """Insert a line after the first line that contains the anchor."""

    def edited(before: str) -> str:
        assert anchor in before, anchor
        end = before.index("\n", before.index(anchor)) + 1
        return f"{before[:end]}{line}\n{before[end:]}"

    return edited


def option(group: str, name: str) -> Callable[[str], str]:
    return lambda before: before.replace(f"| `{group}` | ", f"| `{group}` | `{name}` ", 1)


def both(*edits: Callable[[str], str]) -> Callable[[str], str]:
    def edited(before: str) -> str:
        for edit in edits:
            before = edit(before)
        return before

    return edited


def copied(name: str, new: str) -> str:
    """The module of a real data set, renamed."""
    text = (ROOT / "src/rarelab/data/sets" / f"{name}.py").read_text(encoding="utf-8")
    return text.replace(name, new)


RECIPE = (
    "split: stratified\nsplit_seed: 0\nnumeric: standard\nmax_categories: 32\n"
    "test_share: null\nval_share: null\nfolds: 5\n"
)
ADDITIONS: dict[str, tuple[str, dict[str, Callable[[str], str]]]] = {
    "A loss": (
        "new_loss",
        {
            "src/rarelab/functional/NAME.py": is_new(LOSS_KERNEL),
            "src/rarelab/losses/NAME.py": is_new(LOSS_MODULE),
            "src/rarelab/losses/__init__.py": both(
                after("from rarelab.losses.margins", "from rarelab.losses.new_loss import NewLoss"),
                after("__all__ = [", '    "NewLoss",'),
            ),
            "conf/loss/NAME.yaml": is_new(
                "_target_: rarelab.losses.NewLoss\n"
                "num_classes: null\nreduction: mean\nignore_index: -100\n"
            ),
            "tests/cases.py": after(
                "CASES = [", '    Case("NewLoss", _with_classes(losses.NewLoss, 3), 3),'
            ),
            "tests/reference.py": lambda text: f"{text}\n\ndef half(x):\n    return x / 2\n",
            "tests/test_NAME.py": is_new(LOSS_TEST),
            "docs/losses.md": lambda text: f"{text}\n`new_loss` is for tests.\n",
            "README.md": option("loss", "new_loss"),
        },
    ),
    "A metric": (
        "new_metric",
        {
            "src/rarelab/metrics/exact.py": (
                lambda text: f"{text}\n\ndef new_metric(groups):\n    return groups.rows\n"
            ),
            "src/rarelab/metrics/table.py": after(
                "TABLE = (", '    Metric("test/new_metric", HIGHER, ranking=exact.new_metric),'
            ),
            "tests/test_metrics.py": lambda text: text.replace(
                '"brier", "ece")\n', '"brier", "ece", "new_metric")\n'
            ),
        },
    ),
    "A model": (
        "new_model",
        {
            "src/rarelab/models/NAME.py": is_new(MODEL),
            "src/rarelab/models/__init__.py": both(
                after("from rarelab.models.mlp", "from rarelab.models.new_model import NewModel"),
                after("__all__ = [", '    "NewModel",'),
            ),
            "conf/model/NAME.yaml": is_new(
                "_target_: rarelab.models.NewModel\n"
                "in_features: null\nnum_outputs: null\nprior_bias: true\n"
            ),
            "tests/test_models.py": after(
                "NETWORKS = {", '    "new_model": (models.NewModel, {}),'
            ),
            "README.md": option("model", "new_model"),
        },
    ),
    "A generated data set": (
        "new_drawn",
        {
            "src/rarelab/data/NAME.py": is_new(DRAWN),
            "conf/dataset/NAME.yaml": is_new(
                "_target_: rarelab.data.new_drawn.NewDrawn\nrows: 900\n"
            ),
            "tests/test_NAME.py": is_new(DRAWN_TEST),
            "README.md": option("dataset", "new_drawn"),
        },
    ),
    "A real data set": (
        "new_real",
        {
            "src/rarelab/data/sets/NAME.py": is_new(copied("digits8", "new_real")),
            "conf/dataset/NAME.yaml": is_new(
                f"_target_: rarelab.data.sets.new_real.new_real\n{RECIPE}deduplicate: false\n"
            ),
            "tests/test_data_sets.py": after("assert set(SOURCES) == {", '        "new_real",'),
            "README.md": option("dataset", "new_real"),
        },
    ),
    "An experiment": ("new_study", {"experiments/NAME.yaml": is_new(STUDY)}),
}
NOTICED = {
    "test_every_public_loss_has_a_case": "tests/cases.py",
    "test_the_pages_name_every_loss_and_only_files_that_exist": "docs/losses.md",
    "test_every_option_of_the_configuration_is_in_the_readme": "README.md",
    "test_evaluate_gives_the_recorded_keys_of_a_binary_run": "tests/test_metrics.py",
    "test_every_network_is_tested": "tests/test_models.py",
    "test_every_set_is_there": "tests/test_data_sets.py",
}
"""The tests that fail if a file is forgotten."""

LOOKED_AT = [
    *("losses_contract", "config", "models", "metrics", "data_sets"),
    *("docs", "docs_pages", "sweep_plan", "new_loss", "new_drawn"),
]


def listed(kind: str) -> list[str]:
    """The files that CONTRIBUTING lists for one kind of addition."""
    (part,) = re.findall(rf"^- \*\*{kind}\*\*\n((?:  .*\n)+)", CONTRIBUTING, flags=re.MULTILINE)
    heads = re.findall(r"^  - ((?:`[^`]+`(?:, )?)+):", part, flags=re.MULTILINE)
    return [path for head in heads for path in re.findall(r"`([^`]+)`", head)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with one of each kind added."""
    folder = tmp_path_factory.mktemp("checkout")
    junk = shutil.ignore_patterns("__pycache__", "*.pyc", "recorded_before")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=junk)
    for file in ROOT.iterdir():
        if file.is_file() and file.name != ".git":
            shutil.copy(file, folder)
    for name, edits in ADDITIONS.values():
        for path, edit in edits.items():
            file = folder / path.replace("NAME", name)
            before = file.read_text(encoding="utf-8") if file.exists() else ""
            edited = edit(before)
            assert edited != before, path
            file.write_text(edited, encoding="utf-8")
    return folder


def outcome(checkout: Path, select: str) -> dict[str, str]:
    """Run the selected tests in the copy; their outcomes by test name."""
    known = [f"tests/test_{name}.py" for name in LOOKED_AT]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rA",
        "-q",
        "--tb=short",
        "--durations=12",
        "-k",
        select,
        *known,
    ]
    path = os.pathsep.join([str(checkout / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    ended = re.findall(r"^(PASSED|FAILED|ERROR) \S*?::(\S+)", done.stdout, flags=re.MULTILINE)
    assert ended, done.stdout + done.stderr
    return {name: word for word, name in ended}


@pytest.mark.parametrize("kind", ADDITIONS)
def test_the_listed_files_are_those_edited(kind: str) -> None:
    assert sorted(listed(kind)) == sorted(ADDITIONS[kind][1])


def test_additions_made_by_the_listed_files_meet_the_contracts(checkout: Path) -> None:
    ended = outcome(checkout, f"NewLoss or new_ or {' or '.join(NOTICED)}")
    assert set(ended.values()) == {"PASSED"}, [n for n, word in ended.items() if word != "PASSED"]
    for added in ("NewLoss]", "new_loss", "new_model", "new_drawn", "new_real", "new_study"):
        assert any(added in name for name in ended), added
    assert sum("NewLoss]" in name for name in ended) > 20


def test_a_forgotten_file_is_noticed(checkout: Path) -> None:
    for path in NOTICED.values():
        shutil.copy(ROOT / path, checkout / path)
    ended = outcome(checkout, " or ".join(NOTICED))
    assert {name.partition("[")[0] for name, word in ended.items() if word == "FAILED"} == {
        *NOTICED
    }
