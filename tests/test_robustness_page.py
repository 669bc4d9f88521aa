"""The numbers in docs/robustness.md match the committed measurements."""

import csv
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import rarelab as package
from rarelab.cli import main

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
RESUME, CHECKPOINT, LOAD = (
    ROOT / "experiments" / f"bench_{name}" for name in ("resume", "checkpoint", "load")
)
STORES = {"sqlite": "one SQLite file", "postgresql": "`mlflow server` on PostgreSQL"}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(head: str, lines: Iterator[str]) -> str:
    rule = "|---" * (head.count("|") - 1) + "|"
    return "\n".join([head, rule, *lines])


def kills() -> str:
    found = [row for row in rows(RESUME / "result.csv") if row["then"] != "not killed"]
    runs = Counter(row["dataset"] for row in found)
    equal = Counter(row["dataset"] for row in found if row["equal"] == "yes")
    return table(
        "| data set | runs killed | equal to the uninterrupted run |",
        (f"| {name} | {count} | {equal[name]} |" for name, count in runs.items()),
    )


def cost() -> str:
    return table(
        "| checkpoints | written | training time, seconds | share spent on checkpoints |",
        (
            f"| {row['checkpoints']} | {row['written']} | {row['seconds']} | {row['share']} % |"
            for row in rows(CHECKPOINT / "cost.csv")
        ),
    )


def sigterm() -> str:
    return table(
        "| data set | runs | median | longest |",
        (
            f"| {row['dataset']} | {row['runs']} | {row['median']} | {row['max']} |"
            for row in rows(CHECKPOINT / "sigterm.csv")
        ),
    )


def load() -> str:
    counted = ("runs", "finished", "whole", "values", "stored", "twice", "warnings")
    times = ("open_median", "open_max", "append_max", "close_median", "close_max")
    return table(
        "| store | seconds | runs | finished | with all parameters and files | values on disk | "
        "in the store | duplicates | warnings | open: median | longest | row: longest | "
        "close: median | longest |",
        (
            f"| {STORES[row['store']]} | {row['seconds']} | "
            + "".join(f"{int(row[key]):,} | " for key in counted)
            + " | ".join(row[key] for key in times)
            + " |"
            for row in rows(LOAD / "result.csv")
        ),
    )


@pytest.mark.parametrize("content", [kills, cost, sigterm, load], ids=lambda f: f.__name__)
def test_a_table_on_the_page_matches_the_measurements(content) -> None:
    assert f"<!-- {content.__name__} -->\n{content()}\n<!-- end -->" in PAGE


def test_the_measurements_support_the_claims_of_the_page() -> None:
    killed = rows(RESUME / "result.csv")
    for name in ("toy", "creditcard"):
        runs = [row for row in killed if row["dataset"] == name]
        assert len(runs) >= 20 and {row["equal"] for row in runs} == {"yes"}
        assert "not killed" not in {row["then"] for row in runs}
    assert all(
        float(row["max"]) < 2 and int(row["runs"]) >= 10 for row in rows(CHECKPOINT / "sigterm.csv")
    )
    (auto,) = [row for row in rows(CHECKPOINT / "cost.csv") if row["checkpoints"] == "auto"]
    assert float(auto["share"]) <= 3.0
    for row in rows(LOAD / "result.csv"):
        assert row["store"] in STORES and row["processes"] == "8" and int(row["seconds"]) >= 600
        assert int(row["runs"]) >= 1000 and row["runs"] == row["finished"] == row["whole"]
        assert int(row["values"]) >= 100_000 and row["values"] == row["stored"]
        assert row["twice"] == row["foreign"] == "0"
        assert row["sync"].startswith("0 runs ")


def test_every_file_in_a_command_on_the_page_exists() -> None:
    commands = re.findall(r"(?:^|`)(python [^`\n]+)", PAGE, flags=re.MULTILINE)
    assert len(commands) >= 9
    for command in commands:
        for word in shlex.split(command):
            assert "/" not in word or (ROOT / word).exists(), command


@pytest.mark.slow
def test_a_run_is_reproduced_as_the_page_shows(home: Path, capsys: pytest.CaptureFixture) -> None:
    (shown,) = re.findall(r"^RUN_ID (is reproduced: .*)$", PAGE, flags=re.MULTILINE)
    run = package.train([])
    assert main(["reproduce", run.run_id]) == 0
    assert f"{run.run_id} {shown}" in capsys.readouterr().out
