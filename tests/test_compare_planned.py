"""A comparison of a study whose sweep is not finished says how much of the plan it covers."""

import json
from pathlib import Path
from typing import Any

import pytest

import rarelab as package
from rarelab.compare.command import text
from rarelab.compare.report import html
from rarelab.compare.study import Options, Study, study
from rarelab.compare.tables import as_json
from rarelab.records.load import Records
from rarelab.sweep.conduct import Sweep
from recorded import record

FOUR = "loss=bce,hard_negative_bce,sigmoid_focal,weighted_bce"
SAID = (
    "2 of 4 planned arms have usable runs; the verdicts are corrected for the 1 compared with "
    "loss=bce, not for loss=sigmoid_focal, loss=weighted_bce"
)


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sweep is stopped before its first job."""
    monkeypatch.setattr(Sweep, "rounds", lambda self, jobs, ending: None)


def planned(home: Path, *arguments: str) -> list[dict[str, Any]]:
    """Start a sweep; the jobs in the record of its plan."""
    package.train(["-m", "model=linear", "schedule=constant", "seed=1,2", *arguments])
    folders = (home / "runs" / "rarelab").glob("sweep-*/arms.json")
    return json.loads(max(folders, key=lambda path: path.stat().st_mtime_ns).read_text())


def finish(home: Path, jobs: list[dict[str, Any]], *losses: str, status: str = "done") -> None:
    """Record what the jobs with these losses would."""
    for job in jobs:
        own = job["parameters"]
        if own["loss"] in losses:
            tags = {"rarelab.signature": job["signature"]}
            kept = {"experiment": "rarelab", "data": {}, "tags": tags, "status": status}
            record(home, own, int(own["seed"]), {"test/aucpr": 0.5}, **kept)


def ask(home: Path, **options: Any) -> Study:
    return study(Records(home), Options(experiment="rarelab", baseline="bce", **options))


def said(home: Path, **options: Any) -> list[str]:
    findings = ask(home, **options).findings
    return [note for finding in findings for note in finding.notes if "planned" in note]


def test_planned_arms_without_runs_are_counted_until_the_sweep_is_done(home: Path) -> None:
    jobs = planned(home, FOUR)
    finish(home, jobs, "bce", "hard_negative_bce")
    finish(home, jobs, "weighted_bce", status="error")
    found = ask(home)
    assert f"note: {SAID}" in text(found)
    assert f"Note: {SAID}" in html(found, Records(home), [], "rarelab compare")
    assert SAID in json.loads(as_json(found))["findings"][0]["notes"]
    assert said(home, within=["trainer.batch_size"]) == [SAID]

    (folder,) = (home / "runs" / "rarelab").glob("sweep-*")
    folder.rename(home / "elsewhere")  # the plan of another machine's sweep is in MLflow
    assert said(home) == [SAID]

    finish(home, jobs, "sigmoid_focal", "weighted_bce")
    assert said(home) == []


def test_each_data_set_has_its_own_plan_and_a_sweep_without_a_run_none(home: Path) -> None:
    jobs = planned(home, FOUR, "dataset.class_sep=0.5,1")
    harder = [job for job in jobs if job["parameters"]["dataset.class_sep"] == "0.5"]
    finish(home, harder, *FOUR.removeprefix("loss=").split(","))
    finish(home, [job for job in jobs if job not in harder], "bce", "hard_negative_bce")
    planned(home, "loss=smooth_ap,pauc_at_budget", "dataset.class_sep=1")
    assert said(home) == [SAID]
