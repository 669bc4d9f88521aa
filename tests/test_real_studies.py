"""The studies of real data: the arms follow from the committed searches, and the summary page from
the committed runs."""

import csv
import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from rarelab.ledger.pages import drawn_from

ROOT = Path(__file__).parent.parent
EXPERIMENTS = ROOT / "experiments"
STUDIES = sorted(path.parent.name for path in EXPERIMENTS.glob("*_losses/trials.csv"))


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("study", STUDIES)
def test_the_arms_are_the_best_trials_of_equal_searches(study: str) -> None:
    search = script("search_real")
    content = yaml.safe_load((EXPERIMENTS / f"{study}.yaml").read_text(encoding="utf-8"))
    with (EXPERIMENTS / study / "trials.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["arm"] for row in rows) == dict.fromkeys(search.SPACES, search.TRIALS)
    stated = [f"    - [{', '.join(map(str, arm))}]" for arm in content["sweep"]["arms"]]
    assert stated == search.chosen(rows, study)
    assert content["hydra"]["sweeper"]["params"] == {"seed": "range(10)"}
    assert search.SEED not in range(10)


def test_an_arm_is_the_best_completed_trial_to_three_digits() -> None:
    search = script("search_real")
    rows = [
        {"arm": "bce", "status": "done", "value": "0.5", "values": "optimizer.lr=0.0012345 a.b=7"},
        {"arm": "bce", "status": "pruned", "value": "0.9", "values": "optimizer.lr=0.1 a.b=8"},
        {"arm": "bce", "status": "failed", "value": "", "values": "optimizer.lr=0.2 a.b=9"},
        {"arm": "bce", "status": "done", "value": "0.4", "values": "optimizer.lr=0.3 a.b=10"},
    ]
    assert search.chosen(rows, "letter_losses") == ["    - [loss=bce, optimizer.lr=0.00123, a.b=7]"]


def test_repeating_the_search_gives_the_same_trials_and_arms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = script("search_real")
    (tmp_path / "mine.yaml").write_text("sweep:\n  # why\n  arms:\n    - [loss=focal]\n")
    monkeypatch.setattr(search, "HERE", tmp_path)
    rows = [
        {"arm": "bce", "trial": "0", "status": "done", "value": "0.5", "values": "optimizer.lr=0.1"}
    ]
    assert search.write("mine", rows) == "new"
    assert search.write("mine", rows) == "bit-identical to the previous ones"
    text = (tmp_path / "mine.yaml").read_text()
    assert text == "sweep:\n  # why\n  arms:\n    - [loss=bce, optimizer.lr=0.1]\n"
    assert search.write("mine", [{**rows[0], "value": "0.6"}]) == "different from the previous ones"


@pytest.mark.parametrize(
    ("report", "pages"),
    [
        ("real_report", ["should-i-use-a-ranking-loss.md", "README.md"]),
        ("boosting_report", ["boosting.md"]),
        ("claims_report", ["claims.md"]),
        ("map_report", ["map.md", "README.md", "should-i-use-a-ranking-loss.md"]),
    ],
)
def test_the_pages_match_the_committed_runs(report: str, pages: list[str]) -> None:
    found = script(report).sections()
    assert [page.name for page in found] == pages
    for page, parts in found.items():
        text = page.read_text(encoding="utf-8")
        for name, content in parts.items():
            assert f"<!-- {name} -->\n{content}\n<!-- end -->" in text, name


def test_the_picture_of_the_map_matches_the_committed_runs(tmp_path: Path) -> None:
    report, copy = script("map_report"), tmp_path / "map.png"
    report.draw(copy)
    assert drawn_from(copy) == drawn_from(report.PICTURE) == report.table()


def test_the_map_shows_the_ranking_loss_that_validation_prefers() -> None:
    report = script("map_report")
    for name, own in report.charted().items():
        for model, chosen in own.items():
            ranking = [c for c in report.cells(name)[model] if c.loss in report.RANKING]
            assert chosen.value == max(cell.value for cell in ranking)
    assert list(report.charted()) == sorted(report.charted(), key=lambda n: rate(report, n))


def rate(report: ModuleType, name: str) -> float:
    return float(report.rate(name).split()[0])


def test_the_figure_of_the_ranks_matches_the_committed_runs(tmp_path: Path) -> None:
    report, copy = script("real_report"), tmp_path / "ranks.png"
    committed = drawn_from(report.PICTURE)
    found = report.over_data_sets("test/aucpr")
    report.draw(found, copy)
    assert drawn_from(copy) == committed
    drawn = copy.stat().st_mtime_ns
    report.draw(found, copy)
    assert copy.stat().st_mtime_ns == drawn  # unchanged ranks: the file is left alone
    report.draw(replace(found, ranks={**found.ranks, "loss=bce": 1.0}), copy)
    assert drawn_from(copy) != committed
