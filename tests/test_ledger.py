"""The ledger: runs kept as CSV match their records, and its pages are generated from them."""

import csv
import json
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from data_fixtures import leave_drawn_rows
from rarelab.compare import noise
from rarelab.compare.study import Options, answer, study
from rarelab.data import commands
from rarelab.errors import RarelabError, RequestError
from rarelab.ledger import contests, pages, rerun, runs_csv
from rarelab.ledger.__main__ import parser
from rarelab.ledger.study import ENVIRONMENT, RUNS, Comparison, KeptStudy, studies
from rarelab.paths import config_root
from rarelab.records.load import Records, Run, from_directory
from rarelab.sweep.job import Job
from rarelab.sweep.overrides import quoted_arms
from rarelab.sweep.work import run_job
from recorded import leave_files, paired, record, scored
from studies import CONTEST

FOLDER = config_root() / "experiments"
KEPT = [found for found in studies(FOLDER) if found.has_runs]
OPTIONS = Options(experiment="study", baseline="bce")


def lines(home: Path, *, seeds: int = 8) -> list[Run]:
    """Two arms on two random data sets, and what they were trained on."""
    for rate in ("0.005", "0.05"):
        data = {"dataset": "toy", "dataset.pos_rate": rate}
        for seed in range(seeds):
            for arm, value in (("bce", 0.5 + seed / 97), ("smooth_ap", 0.6 + seed / 89)):
                metrics = {"test/aucpr": value, "val/aucpr": 0.1, "test/class/a/aucpr": 0.2}
                metrics |= {"best/warmup_val_aucpr": math.nan}
                keys = {"loss": arm} | ({"loss.queue_size": "64"} if arm != "bce" else {})
                record(home, keys, seed, metrics, data=data, digest=f"{rate} {seed}")
    return Records(home).runs("study")


def test_the_same_runs_give_the_same_bytes_and_reread_give_the_same_answer(
    home: Path, tmp_path: Path
) -> None:
    runs = lines(home)
    text = runs_csv.as_csv(runs)
    assert text == runs_csv.as_csv(runs[::-1])
    assert text.splitlines()[0].endswith("seed,status,rows,data_digest,test/aucpr")
    path = tmp_path / RUNS
    path.write_text(text, encoding="utf-8")
    again = runs_csv.read(path)
    assert runs_csv.as_csv(again) == text
    assert {run.metrics["test/aucpr"] for run in again} == {r.metrics["test/aucpr"] for r in runs}
    kept, recorded = (answer(r, OPTIONS, lambda *asked: {}) for r in (again, runs))
    assert kept.findings == recorded.findings
    assert len(kept.findings) == 2 and kept.findings[0].contrasts[0].verdict == "better"


def test_the_noise_of_fixed_test_rows_rereads_to_the_same_verdict(
    home: Path, tmp_path: Path
) -> None:
    for loss, shift in (("bce", 2.0), ("smooth_ap", 2.2)):
        for seed in range(6):
            folder = home / "runs" / "study" / f"{loss}-{seed}"
            found = leave_files(folder, *scored(2000, 60, shift, draw=1, noise=0.3, seed=seed))
            record(home, {"loss": loss}, seed, found, directory=folder)
    from_records = study(Records(home), OPTIONS)
    (contrast,) = from_records.findings[0].contrasts
    assert contrast.rows is not None
    (tmp_path / RUNS).write_text(runs_csv.as_csv(from_records.runs), encoding="utf-8")
    (tmp_path / "rows.csv").write_text(noise.as_csv(from_records.findings), encoding="utf-8")
    runs = runs_csv.read(tmp_path / RUNS)
    kept = answer(runs, OPTIONS, noise.kept(tmp_path / "rows.csv"))
    assert kept.findings == from_records.findings
    moved = [replace(r, metrics={"test/aucpr": (r.seed or 0) / 100 + len(r.name)}) for r in runs]
    stale = answer(moved, OPTIONS, noise.kept(tmp_path / "rows.csv")).findings[0]
    assert stale.contrasts[0].rows is None
    assert "not part of the verdict" in stale.notes[-1]


def test_runs_are_compared_within_the_requested_groups(home: Path) -> None:
    paired(home, {"bce": [0.5] * 6, "smooth_ap": [0.6] * 6})
    for seed in range(6):
        for loss, value in (("bce", 0.9), ("smooth_ap", 0.8)):
            record(home, {"loss": loss, "optimizer.lr": "0.1"}, seed, {"test/aucpr": value})
    with pytest.raises(RequestError, match="2 arms match"):
        study(Records(home), OPTIONS)
    found = study(Records(home), replace(OPTIONS, within=["optimizer.lr"])).findings
    assert [f.data for f in found] == ["lr=0.001", "lr=0.1"]
    assert [f.contrasts[0].verdict for f in found] == ["better", "worse"]
    with pytest.raises(RequestError, match=r"within=optimiser.lr: .* did you mean 'optimizer.lr'"):
        study(Records(home), replace(OPTIONS, within=["optimiser.lr"]))


def test_a_header_defines_the_comparisons(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "# @package _global_\n# Question: does it\n#           help?\n"
        "# Compare:  baseline='loss=bce lr=0.1' within=[a.b,c] also=[train/zero_grad_frac]\n"
        "# Compare:  metric=test/ece figure=dataset.pos_rate\n# no word of a header\nseed: 1\n"
    )
    found = KeptStudy(path)
    assert found.header == {"Question": "does it help?"}
    first, second = found.comparisons
    assert first == Comparison("loss=bce lr=0.1", "test/aucpr", ("a.b", "c"), first.also)
    assert first.also == ("train/zero_grad_frac",)
    assert (second.metric, second.figure) == ("test/ece", "dataset.pos_rate")
    path.write_text("# Compare: basline=bce\n")
    with pytest.raises(RequestError, match="did you mean 'baseline'"):
        KeptStudy(path).comparisons  # noqa: B018
    path.write_text("# Result:   yes\n# Compare:  metric=test/ece\n# Result:   no\n")
    with pytest.raises(RequestError, match=r"mine\.yaml: Result: found twice, expected once"):
        studies(tmp_path)  # before anything is run


def test_a_contest_is_kept_with_its_trials_and_repeated_from_them(
    home: Path, tmp_path: Path
) -> None:
    mine = KeptStudy(tmp_path / "experiments" / "mine.yaml")
    mine.path.parent.mkdir()
    mine.path.write_text(CONTEST, encoding="utf-8")
    with rerun.asked(mine, str(home)) as found:
        planned = contests.planned(*found)
        ended = trained(planned.plan.trials)
        ended += trained(planned.runs(planned.trials(ended)))
    said = [rerun.keep(mine, ended) for _ in range(2)]
    assert "4 runs, new" in said[0] and "4 runs, bit-identical" in said[1]
    trials = pd.read_csv(mine.folder / contests.TRIALS)
    assert list(trials["status"].value_counts().items()) == [("done", 4), ("given", 2)]
    best = trials.loc[trials.groupby("dataset.pos_rate")["value"].idxmax().dropna()]
    chosen = {(run.data["dataset.pos_rate"], run.params["loss.gamma"]) for run in focal(mine)}
    assert chosen == {(str(r), str(g)) for r, g in best[["dataset.pos_rate", "loss.gamma"]].values}
    assert (mine.environment()["jobs"], mine.environment()["trials"]) == (4, 4)
    assert len({str(run.arm) for run in focal(mine)}) == 1  # whatever each of them chose
    assert runs_csv.as_csv(mine.runs()) == (mine.folder / RUNS).read_text("utf-8")
    asked = mine.comparisons[0]
    told = pages.verdict(mine, mine.answers())
    assert "`rarelab compare experiment=mine_contest metric=test/aucpr baseline=bce " in told
    assert asked.margin == 0.002 and mine.options(asked).margin == 0.002
    assert "2 trials of each arm on each split chose its values" in pages.ledger([mine])
    assert rerun.check(mine, 0.5, 0) == (2, [])
    text = (mine.folder / contests.TRIALS).read_text("utf-8")
    (mine.folder / contests.TRIALS).write_text(text.replace(str(best["loss.gamma"].iloc[0]), "9"))
    with pytest.raises(RarelabError, match="not the trials that the study plans"):
        rerun.check(mine, 0.5, 0)


def trained(jobs: Sequence[Job]) -> list[Run]:
    return [from_directory(Path(run_job(job).directory)) for job in jobs]


def focal(mine: KeptStudy) -> list[Run]:
    return [run for run in mine.runs() if run.params["loss"] == "sigmoid_focal"]


def test_differences_from_the_committed_runs_are_reported(home: Path) -> None:
    text = runs_csv.as_csv(lines(home, seeds=2))
    assert "the same values as committed" in rerun.differing(text, text)
    value = "0.5103092783505154"
    assert text.count(value) == 2
    assert "test/aucpr by up to 8.35e-09" in rerun.differing(text, text.replace(value, value[:10]))
    cut = "".join(text.splitlines(keepends=True)[:-1])
    assert "0 new, 1 missing" in rerun.differing(text, cut)
    before = {"packages": {"torch": "2.12"}, "python": "3.11", "code": ["a"]}
    now = {**before, "packages": {"torch": "2.13"}, "machine": None, "code": ["b"]}
    told = rerun.changed(before, {"cpu_capability": None, "accelerator": None, **now})
    assert told == "torch 2.12 -> 2.13, code ['a'] -> ['b']"


def test_changed_code_is_reported_and_the_ledgers_own_files_are_not(home: Path) -> None:
    home.mkdir()
    state = {"untracked": ["experiments/mine/", "src/rarelab/new.py"]}
    facts = json.dumps({"checkouts": [state, {"untracked": ["elsewhere"]}]})
    (home / ENVIRONMENT).write_text(facts)
    assert rerun.changed_files(home) == {"src/rarelab/new.py"}
    files = ["experiments/README.md", "experiments/mine/runs.csv", "experiments/mine.yaml"]
    files += ["experiments/report.py", "experiments/bench_mine/run.py"]  # no run imports them
    (home / "diff.patch").write_text("".join(f"diff --git a/{f} b/{f}\n+x\n" for f in files))
    assert rerun.changed_files(home) == {"src/rarelab/new.py", "experiments/mine.yaml"}


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_the_pages_of_a_study_match_its_runs(kept: KeptStudy) -> None:
    found = kept.answers()
    committed = {
        name: (kept.folder / name).read_text("utf-8") for name in ("verdict.md", "verdict.csv")
    }
    assert committed == {
        "verdict.md": pages.verdict(kept, found),
        "verdict.csv": pages.table(found),
    }
    assert pages.drawn_from(kept.folder / pages.FIGURE) == pages.digest(kept)
    assert all(file.stat().st_size < 300_000 for file in kept.folder.iterdir())
    assert runs_csv.as_csv(kept.runs()) == (kept.folder / RUNS).read_text("utf-8")
    assert kept.environment()["jobs"] == len(kept.runs()) == int(kept.header["Jobs"])
    assert not kept.environment().get("changed"), ENVIRONMENT


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_the_numbers_quoted_in_a_result_are_in_its_tables(kept: KeptStudy) -> None:
    """Fractions only; its search, its arms and the tables of a study it names count too."""
    told = kept.header["Result"]
    stated = re.findall(r"\d+\.\d+", kept.path.read_text("utf-8").partition("\ndefaults:\n")[2])
    for name in [kept.name, *(other.name for other in KEPT if other.name in told)]:
        for file in FOLDER.glob(f"{name}/[vt]*.csv"):
            with file.open(encoding="utf-8") as lines:
                rows = list(csv.DictReader(lines))
            columns = ("mean", "difference", "margin", "p_holm", "value")
            stated += [row[column] for row in rows for column in columns if row.get(column)]
    known = [abs(float(number)) for number in stated]
    for number in re.findall(r"\b0\.\d\d+(?!\d* %)", told):
        digits = len(number) - 2
        assert any(f"{value:.{digits}f}" == number for value in known), number


def test_the_ledger_matches_the_committed_runs() -> None:
    text = (FOLDER / pages.README).read_text("utf-8")
    assert f"<!-- {pages.LEDGER} -->\n{pages.ledger(KEPT)}\n{pages.END}" in text


def test_the_commands_in_the_ledger_exist() -> None:
    text = (FOLDER / pages.README).read_text("utf-8")
    targets = re.findall(
        r"^([\w-]+):", (FOLDER.parent / "Makefile").read_text("utf-8"), re.MULTILINE
    )
    names = {found.name for found in studies(FOLDER)}
    assert set(re.findall(r"\bmake ([\w-]+)", text)) <= {*targets, "studies"}
    assert {*re.findall(r"STUDY=(\w+)", text)} <= names
    for found in studies(FOLDER):
        assert found.header["Run"].startswith(f"make studies STUDY={found.name}")
    commands = re.findall(r"^python -m rarelab\.ledger (.*)$", text, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert parser().parse_args(shlex.split(command, comments=True)).does


SMALL = {
    "toy": ["dataset.n_samples=4000"],
    "contested_top": [f"dataset.{key}=8000" for key in ("n_train", "n_val", "n_test")],
    "digits": [],
}
"""What makes data small that need no stand-in."""


WHOLE = "kdd_census_losses"
"""This study runs with all its arms; those with the same arms on other data run with three. Other
tests check that every arm is planned and trains on each kind of data."""


CONTESTS = {"boosting", "map", "map_networks"}
"""Studies based on one of these are contests, which another test trains."""


def _defaults(kept: KeptStudy) -> list[Any]:
    return yaml.safe_load(kept.path.read_text("utf-8"))["defaults"]


def _data_of(kept: KeptStudy) -> str:
    chosen = (one for one in _defaults(kept) if "override /dataset" in one)
    return next(str(one["override /dataset"]) for one in chosen)


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(found, marks=[] if found.name == "queue_by_batch" else pytest.mark.slow)
        for found in studies(FOLDER)
        if CONTESTS.isdisjoint(one for one in _defaults(found) if isinstance(one, str))
    ],
    ids=lambda kept: kept.name,
)
def test_a_scaled_down_study_produces_its_pages(
    kept: KeptStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if _data_of(kept) not in SMALL:
        monkeypatch.setenv("RARELAB_DATA", str(tmp_path / "data"))
        leave_drawn_rows(commands.sources()[_data_of(kept)], tmp_path / "data")
    written = yaml.safe_load(kept.path.read_text("utf-8"))
    grid, arms = written["hydra"]["sweeper"]["params"], written.get("sweep", {}).get("arms", [])
    asked = kept.comparisons
    named = {key for one in asked for key in (*one.within, one.figure)}
    chosen = {item.partition("=")[0] for one in asked for item in (one.baseline or "").split()}
    named |= {key for key in grid if key.rpartition(".")[2] in chosen}
    few = [
        f"{key}={','.join(str(values).split(',')[: 2 if key in named else 1])}"
        for key, values in grid.items()
        if key != "seed"
    ]
    few += [
        *SMALL.get(_data_of(kept), []),
        "seed=0,1",
        "trainer.max_epochs=1",
        "trainer.select=any",
    ]
    if kept.name.endswith("_losses") and kept.name != WHOLE:
        chosen_arms = ",".join(f"[{','.join(arms[place])}]" for place in (0, 4, -1))
        few.append(quoted_arms(f"sweep.arms=[{chosen_arms}]"))
    jobs = rerun.plan(kept, str(tmp_path / "home"), *few)
    ended = [run_job(job) for job in jobs]
    assert [result.status for result in ended] == ["done"] * len(jobs), ended
    copy = KeptStudy(tmp_path / kept.path.name)
    copy.path.write_text(kept.path.read_text("utf-8"), encoding="utf-8")
    runs = [from_directory(Path(result.directory)) for result in ended]
    assert f"{len(runs)} runs, new" in rerun.keep(copy, runs)
    made = (copy.folder / ENVIRONMENT).read_text("utf-8")
    for retime, stands in ((False, "{}"), (True, made)):
        (copy.folder / ENVIRONMENT).write_text("{}")
        assert "bit-identical" in rerun.keep(copy, runs, retime=retime)
        assert (copy.folder / ENVIRONMENT).read_text("utf-8") == stands
    pages.write_study(copy)
    for _ in range(2):
        pages.write_readme(tmp_path, [copy])
    page = (tmp_path / pages.README).read_text("utf-8")
    assert page == f"# Studies\n\n<!-- {pages.LEDGER} -->\n{pages.ledger([copy])}\n{pages.END}\n"
    assert f"`make studies STUDY={kept.name}`" in pages.ledger([copy])
    assert (copy.folder / pages.FIGURE).stat().st_size > 10_000
    assert copy.environment()["jobs"] == len(jobs) == len(copy.runs())
