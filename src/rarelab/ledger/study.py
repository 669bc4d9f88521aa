"""A study: the header of its YAML file, and the small files of its results."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from rarelab.compare import noise
from rarelab.compare.study import Options, Study, answer, as_number
from rarelab.errors import RequestError, nearest
from rarelab.ledger import runs_csv
from rarelab.paths import config_root
from rarelab.records.load import Run

RUNS, ROWS, ENVIRONMENT = "runs.csv", "rows.csv", "environment.json"

_WORDS = ("Question", "Run", "Jobs", "Expect", "Compare", "Result")
_LINE = re.compile(rf"# (?P<word>{'|'.join(_WORDS)}): +(?P<text>.*)")
_MORE = re.compile(r"#  +(?P<text>\S.*)")
_KEYS = ("baseline", "metric", "within", "also", "figure", "margin")


@dataclass(frozen=True)
class Comparison:
    """One ``# Compare:`` line of a header, with the keys of ``rarelab compare``.

    ``also`` are metrics whose means are shown too, without a test; ``figure`` is the swept number
    on the x axis of the figure (without it, the figure shows the differences); ``margin`` is the
    difference below which nobody cares, where the metric's usual one is not meant.
    """

    baseline: str | None = None
    metric: str = "test/aucpr"
    within: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    figure: str | None = None
    margin: float | None = None

    def __str__(self) -> str:
        """What decides the figure: a margin that is not given is left out, so that figures drawn
        before there were margins are still those of their study."""
        shown = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.margin is None:
            del shown["margin"]
        told = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        return f"{type(self).__name__}({told})"

    def command(self, experiment: str) -> str:
        """The command that makes the same comparison from one's own records."""
        told = [f"experiment={experiment}", f"metric={self.metric}"]
        told += [f"baseline={self.baseline}"] if self.baseline else []
        told += [f"within=[{','.join(self.within)}]"] if self.within else []
        told += [f"margin={self.margin:g}"] if self.margin is not None else []
        return shlex.join(["rarelab", "compare", *told])


@dataclass(frozen=True)
class KeptStudy:
    """``FOLDER/NAME.yaml`` with its results in ``FOLDER/NAME/``.

    Raises:
        RequestError: on reading, for an invalid header.
    """

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def folder(self) -> Path:
        return self.path.with_suffix("")

    @property
    def search_path(self) -> list[str]:
        """Hydra's additional search path for the study; empty for those of the checkout."""
        shipped = (config_root() / "conf" / "experiments").resolve()
        folder = self.path.resolve().parent
        return [] if folder == shipped else [str(folder.parent)]

    @property
    def experiment(self) -> str:
        """The name under which its runs are recorded."""
        return f"{self.name}_contest" if self.is_contest else self.name

    @property
    def is_contest(self) -> bool:
        """Whether its arms were searched first; known once there are runs."""
        if not self.has_runs:
            return False
        with (self.folder / RUNS).open(encoding="utf-8") as file:
            return runs_csv.SEARCHED in file.readline().split(",")

    @property
    def has_runs(self) -> bool:
        return (self.folder / RUNS).is_file()

    @cached_property
    def header(self) -> Mapping[str, str]:
        """The header's entries by word; the ``Compare`` lines are in :attr:`comparisons`."""
        return {word: text for word, text in _read(self.path) if word != "Compare"}

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        return tuple(
            _comparison(self.path, text) for word, text in _read(self.path) if word == "Compare"
        )

    def runs(self) -> list[Run]:
        return runs_csv.read(self.folder / RUNS)

    def environment(self) -> dict[str, Any]:
        return json.loads((self.folder / ENVIRONMENT).read_text(encoding="utf-8"))

    def answers(self) -> list[Study]:
        """The results of the committed runs, one per comparison."""
        runs, kept = self.runs(), noise.kept(self.folder / ROWS)
        return [answer(runs, self.options(asked), kept) for asked in self.comparisons]

    def options(self, asked: Comparison) -> Options:
        return Options(
            experiment=self.experiment,
            baseline=asked.baseline,
            metric=asked.metric,
            within=asked.within,
            margin=asked.margin,
        )


def studies(folder: Path) -> list[KeptStudy]:
    """The studies of a folder that have a ``Compare`` line, sorted by name."""
    every = [KeptStudy(path) for path in sorted(folder.glob("*.yaml"))]
    return [study for study in every if study.comparisons]


def _read(path: Path) -> list[tuple[str, str]]:
    """Word and text of each header entry, continuation lines joined.

    Raises:
        RequestError: a word other than ``Compare`` occurs twice.
    """
    found = list(_entries(path))
    words = [word for word, _ in found if word != "Compare"]
    for word in words:
        if words.count(word) > 1:
            raise RequestError(f"{path.name}: {word}: found twice, expected once")
    return found


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    word, text = "", ""
    for line in path.read_text(encoding="utf-8").splitlines():
        start, more = _LINE.fullmatch(line), _MORE.fullmatch(line)
        if more and word:
            text += f" {more['text']}"
            continue
        if word:
            yield word, text
        word, text = (start["word"], start["text"]) if start else ("", "")
    if word:
        yield word, text


def _comparison(path: Path, text: str) -> Comparison:
    found: dict[str, Any] = {}
    for item in shlex.split(text):
        key, equals, value = item.partition("=")
        if key not in _KEYS or not equals:
            raise RequestError(f"{path.name}: Compare: {item}: {nearest(key, _KEYS)}")
        several = key in ("within", "also")
        found[key] = tuple(value.strip("[]").split(",")) if several else value
    if "margin" in found:
        found["margin"] = as_number(f"{path.name}: Compare: margin", found["margin"])
    return Comparison(**found)
