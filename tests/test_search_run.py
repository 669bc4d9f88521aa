"""A complete search, with a launcher that runs its jobs in this process."""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from hydra_plugins.rarelab_optuna import RarelabOptuna
from rarelab.config.compose_many import Composer, loader
from rarelab.errors import RequestError
from rarelab.sweep.conduct import Sweep
from rarelab.sweep.job import Job, Result
from rarelab.sweep.launcher import JobLauncher, Report
from rarelab.sweep.work import run_job

SMALL = (
    "hydra/sweeper=optuna",
    "tracking=none",
    "dataset.n_samples=800",
    "dataset.pos_rate=0.1",
    "model=linear",
    "loss=bce",
    "trainer.max_epochs=3",
)
SPACE = (*SMALL, "optimizer.lr=tag(log,interval(0.001,0.3))", "seed=0,1")


class InThisProcess(JobLauncher):
    """Runs the jobs in order with ``run``, after calling ``before``, which may raise, with each."""

    def __init__(
        self,
        run: Callable[[Job], Result] = run_job,
        before: Callable[[Job], None] = lambda job: None,
    ) -> None:
        self.run, self.before, self.jobs = run, before, list[Job]()

    def run_jobs(self, jobs: Sequence[Job], report: Report) -> list[Result]:
        results = []
        for job in jobs:
            self.jobs.append(job)
            self.before(job)
            results.append(self.run(job))
            if not report(results[-1]):
                break
        return results


def pretend(job: Job) -> Result:
    """A made-up result: best at a rate of 0.02, seed 1 better than seed 0; rate 0.3 diverges, 0.18
    gives NaN."""
    rate = job.config["optimizer"]["lr"]
    value = math.exp(-((math.log(rate) - math.log(0.02)) ** 2)) / 2 + 0.1 * job.config["seed"]
    if rate == 0.3:
        return Result(job.number, "diverged", error="Diverged", reason="the loss is nan")
    metrics = {"best/val_aucpr": math.nan if rate == 0.18 else value, "test/aucpr": 1 - value}
    return Result(job.number, "done", metrics=metrics)


def search(
    *overrides: str,
    launcher: InThisProcess | None = None,
    folders: Sequence[str] = (),
    **options: object,
) -> list[Result]:
    with loader(folders) as found:
        cfg = Composer(found).sweep(overrides)
        launcher = launcher or InThisProcess(pretend)
        launcher.config = cfg
        sweep = Sweep(cfg, found, launcher)
        return RarelabOptuna(**{"n_trials": 4, **options}).carry_out(sweep, overrides)  # type: ignore[arg-type]


def folder(home: Path) -> Path:
    (found,) = (home / "runs" / "rarelab").glob("sweep-*")
    return found


def table(home: Path) -> pd.DataFrame:
    return pd.read_csv(folder(home) / "trials.csv")


def test_the_value_of_a_trial_is_its_mean_best_validation_aucpr_over_seeds(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = InThisProcess(pretend)
    results = search(*SPACE, launcher=launcher)
    assert len(results) == 8
    values = [
        statistics.fmean(result.metrics["best/val_aucpr"] for result in results[place : place + 2])
        for place in (0, 2, 4, 6)
    ]
    found = table(home)
    assert found["value"].tolist() == pytest.approx(values)
    assert (found["status"] == "done").all()
    # The seed that the pruner watches comes first.
    assert [job.config["seed"] for job in launcher.jobs] == [0, 1] * 4
    best = found.loc[found["value"].idxmax()]
    said = capsys.readouterr().out
    assert f"best: trial {best['trial']:.0f}, validation AUCPR {best['value']:.4f}" in said
    assert f"loss=bce trainer.max_epochs=3 optimizer.lr={best['optimizer.lr']:g}" in said
    assert (folder(home) / "figures" / "search.png").stat().st_size > 10_000
    assert len(pd.read_csv(folder(home) / "jobs.csv")) == 8
    names = [job.name for job in launcher.jobs]
    assert names[1] == f"optimizer.lr={launcher.jobs[1].config['optimizer']['lr']!r} seed=1"
    assert launcher.jobs[2].numbers["trial"] == 1


def test_the_metric_that_selects_is_what_a_search_maximises(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def against(job: Job) -> Result:
        """The recall falls where the AUCPR rises."""
        result = pretend(job)
        value = result.metrics["best/val_aucpr"]
        return replace(
            result, metrics=result.metrics | {"best/val_recall_at_q/0.02": 1 - value / 2}
        )

    by = "trainer.select_by=val/recall_at_q/0.02"
    space = (*SMALL, "optimizer.lr=tag(log,interval(0.001,0.1))")
    search(*space, by, launcher=InThisProcess(against))
    (recall,) = (home / "runs" / "rarelab").glob("sweep-*")
    said = capsys.readouterr().out
    values = pd.read_csv(recall / "trials.csv")["value"]
    assert f"val/recall_at_q/0.02 {values.max():.4f}" in said and "maximises" in said
    head = (recall / "table.csv").read_text().splitlines()[0]
    assert "best/val_aucpr mean" in head and "best/val_recall_at_q/0.02 mean" in head
    search(*space, by, launcher=InThisProcess(against), metric="val/aucpr")
    (aucpr,) = set((home / "runs" / "rarelab").glob("sweep-*")) - {recall}
    found = pd.read_csv(aucpr / "trials.csv")
    assert found["optimizer.lr"][0] == pd.read_csv(recall / "trials.csv")["optimizer.lr"][0]
    assert values[0] == pytest.approx(1 - found["value"][0] / 2)


def test_a_search_over_several_selecting_metrics_needs_one_to_compare(home: Path) -> None:
    swept = (*SMALL, "trainer.select_by=val/aucpr,val/recall_at_q/0.02")
    launcher = InThisProcess(pretend)
    with pytest.raises(RequestError, match="compared by one metric, found 2"):
        search(*swept, launcher=launcher)
    assert launcher.jobs == [] and not home.exists()


def test_the_same_command_resumes_an_interrupted_search_seamlessly(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"startup_trials": 2, "n_trials": 5}
    search(*SPACE, **options)
    whole = table(home)
    other = home.with_name(f"{home.name}-other")
    monkeypatch.setenv("RARELAB_HOME", str(other))

    def interrupt(job: Job) -> None:
        if job.number == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(*SPACE, launcher=InThisProcess(pretend, interrupt), **options)
    assert table(other)["status"].tolist() == ["done", "done", "running"]
    rest = InThisProcess(pretend)
    search(*SPACE, launcher=rest, **options)
    assert [job.number for job in rest.jobs] == [4, 5, 6, 7, 8, 9]
    pd.testing.assert_frame_equal(table(other), whole)
    idle = InThisProcess(pretend)
    assert search(*reversed(SPACE), launcher=idle, **options) == []
    assert idle.jobs == []
    search(*SPACE, launcher=idle, **{**options, "n_trials": 6})
    assert len(table(other)) == 6


def test_a_hopeless_trial_is_pruned_and_finished_jobs_are_reused(home: Path) -> None:
    """With real training."""
    easy = ("dataset.class_sep=3", "dataset.n_redundant=0", "dataset.n_features=10")
    space = (*SMALL, *easy, "optimizer.lr=0.1,1e-9", "seed=0,1")
    options = {"n_trials": 6, "startup_trials": 2, "pruner_warmup": 0, "sampler": "random"}
    options["sampler_seed"] = 2  # two good trials, then a hopeless one
    launcher = InThisProcess()
    results = search(*space, launcher=launcher, **options)
    found = table(home)
    pruned = found[found["status"] == "pruned"]
    assert set(pruned["optimizer.lr"]) == {1e-9}
    by_number = {result.number: result for result in results}
    for number in pruned["trial"]:
        first = by_number[2 * number]
        assert first.status == "pruned"
        assert not first.failed
        assert json.loads((Path(first.directory) / "status.json").read_text())["status"] == "pruned"
        assert 2 * number + 1 not in by_number
    done = found[found["status"] == "done"]
    assert set(done["optimizer.lr"]) == {0.1}
    assert len(done) > 1
    # The good rate's two jobs were trained once, for its first trial.
    assert [job.config["optimizer"]["lr"] for job in launcher.jobs].count(0.1) == 2


def test_a_diverged_or_nan_trial_fails_and_the_search_continues(home: Path) -> None:
    space = (*SMALL, "optimizer.lr=0.1,0.3,0.18", "seed=0,1")
    results = search(*space, sampler="random", n_trials=8)
    found = table(home)
    assert set(found[found["status"] == "failed"]["optimizer.lr"]) == {0.3, 0.18}
    assert set(found[found["status"] == "done"]["optimizer.lr"]) == {0.1}
    assert {result.status for result in results} == {"done", "diverged"}


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("loss.reduction=mean,foo", "loss.reduction=foo: expected one of"),
        ("trainer.max_epochs=int(interval(0,3))", "max_epochs is 0, expected at least 1"),
        ("optimizer.lr=interval(-1,1)", "Invalid learning rate: -1"),
        ("trainer.max_epochs=interval(1,3)", "expected a whole number"),
        ("loss.temperature=interval(0,1)", "loss.temperature: there is no such key"),
        ("model=linear,gru", "takes sequences"),
        ("sweep.arms=[['loss=bce']]", "not supported in a search"),
    ],
)
def test_an_invalid_corner_stops_the_search_before_anything_is_written(
    home: Path, override: str, answer: str
) -> None:
    with pytest.raises(RequestError, match=answer) as caught:
        search(*SMALL, "optimizer.weight_decay=interval(0,1)", override)
    assert "\n" not in str(caught.value)
    assert not home.exists()


def test_a_dry_run_shows_the_space_and_writes_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(*SPACE, "sweep.dry_run=true") == []
    assert "optimizer.lr: numbers from 0.001 to 0.3, logarithmic" in capsys.readouterr().out
    assert not home.exists()


def test_files_edited_during_a_search_have_no_effect(tmp_path: Path, home: Path) -> None:
    """Not even on a combination of choices first sampled after the edit."""
    leaves = tmp_path / "conf" / "optimizer"
    leaves.mkdir(parents=True)

    def write(rate: float) -> None:
        for name in ("slow", "fast"):
            leaf = f"_target_: torch.optim.SGD\nlr: {rate}\n"
            (leaves / f"{name}.yaml").write_text(leaf)

    write(0.125)
    launcher = InThisProcess(pretend, lambda job: write(99.0))
    space = (*SMALL, "optimizer=slow,fast", "model=linear,mlp")
    folders = [str(tmp_path / "conf")]
    search(*space, launcher=launcher, folders=folders, n_trials=12, sampler="random")
    chosen = {(job.choices["optimizer"], job.choices["model"]) for job in launcher.jobs}
    assert ("fast", "mlp") in chosen
    assert {job.config["optimizer"]["lr"] for job in launcher.jobs} == {0.125}


def test_two_processes_cannot_run_the_same_search_at_once(home: Path) -> None:
    def start_another(job: Job) -> None:
        with pytest.raises(RequestError, match="already running in another process"):
            search(*SPACE)

    search(*SPACE, launcher=InThisProcess(pretend, start_another), n_trials=1)
