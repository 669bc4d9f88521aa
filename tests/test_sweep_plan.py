"""The plan: what a request expands to, and what is refused before anything runs."""

import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from rarelab.cli import main
from rarelab.config import signature as sweep_signature
from rarelab.config.compose import compose_train
from rarelab.config.compose_many import Composer, loader
from rarelab.config.groups import GRADIENT
from rarelab.config.signature import code_fingerprint, code_modules, signature
from rarelab.errors import RequestError
from rarelab.paths import config_root
from rarelab.runs.claim import kind
from rarelab.sweep.display import arms_lines
from rarelab.sweep.job import Job, parameters
from rarelab.sweep.overrides import as_meant, expand, quoted_arms
from rarelab.sweep.plan import Planner
from rarelab.sweep.settings import settings

STUDIES = config_root() / "conf" / "experiments"
ARMS = "sweep.arms=[[loss=bce], [loss=smooth_ap, loss.queue_size=8192, model.hidden=[8,4]]]"


def plan(*arguments: str, keep: Callable[[Sequence[str]], bool] = lambda _: True) -> list[Job]:
    """The jobs that ``rarelab train -m ARGUMENTS`` would run, filtered by ``keep``."""
    typed = [quoted_arms(argument) for argument in arguments]
    with loader() as found:
        composer = Composer(found)
        base = composer.sweep(typed)
        study = base.hydra.sweeper.get("params") or {}
        lines = [o for o in expand(composer.parser, study, typed, settings(base)) if keep(o)]
        return Planner(composer, "/records", "rarelab").jobs(lines)


def names(jobs: Sequence[Job]) -> list[str]:
    return [job.name for job in jobs]


def test_a_grid_varies_the_last_key_fastest() -> None:
    jobs = plan("loss=bce,smooth_ap", "seed=range(2)", "trainer.max_epochs=6")
    assert names(jobs) == [
        "loss=bce seed=0",
        "loss=bce seed=1",
        "loss=smooth_ap seed=0",
        "loss=smooth_ap seed=1",
    ]
    assert [job.number for job in jobs] == [0, 1, 2, 3]
    assert {job.config["trainer"]["max_epochs"] for job in jobs} == {6}
    assert [job.numbers for job in jobs] == [{"seed": 0.0}, {"seed": 1.0}] * 2


def test_an_arm_has_its_own_keys_and_multiplies_with_grid_and_zip() -> None:
    zipped = "sweep.zip={optimizer.lr:[0.1,0.01],trainer.batch_size:[128,512]}"
    jobs = plan(ARMS, zipped, "seed=0,1")
    assert len(jobs) == 8
    assert {(j.config["optimizer"]["lr"], j.config["trainer"]["batch_size"]) for j in jobs} == {
        (0.1, 128),
        (0.01, 512),
    }
    assert [job.config["loss"].get("queue_size") for job in jobs] == [None] * 4 + [8192] * 4
    assert jobs[-1].config["model"]["hidden"] == [8, 4]
    assert jobs[-1].name == "loss=smooth_ap hidden=[8,4] lr=0.01 batch_size=512 seed=1"


def test_globs_and_choices_use_hydras_syntax() -> None:
    jobs = plan("optimizer=glob(*, exclude=sgd)", "lr_schedule=choice(constant,cosine)")
    assert {job.choices["optimizer"] for job in jobs} == {"adam", "adamw"}
    assert len(jobs) == 4


def test_a_job_equals_the_command_with_its_overrides() -> None:
    for job in plan(ARMS, "dataset=toy,contested_top", "dataset.pos_rate=0.02"):
        cfg, choices = compose_train(list(job.overrides))
        assert job.signature == signature(cfg)
        assert job.choices == choices


def test_the_order_of_overrides_does_not_matter() -> None:
    first = plan("loss=bce,smooth_ap", "seed=0,1", "trainer.max_epochs=6")
    second = plan("trainer.max_epochs=6", "seed=1,0", "loss=smooth_ap,bce")
    assert {job.signature for job in first} == {job.signature for job in second}
    assert first[0].sweep == second[0].sweep


def test_equal_jobs_are_planned_once() -> None:
    assert len(plan("seed=1,1,2")) == 2


def test_a_model_without_a_loss_is_not_multiplied_by_losses() -> None:
    jobs = plan("model=mlp,hist_gradient_boosting", "loss=bce,smooth_ap", "seed=0,1")
    boosting = "model=hist_gradient_boosting"
    assert [job.name for job in jobs if boosting in job.name] == [
        f"{boosting} seed={s}" for s in (0, 1)
    ]
    assert len(jobs) == 4 + 2
    gradient = {f"{group}._target_" for group in GRADIENT}
    for job in jobs:
        used, fits_itself = gradient & parameters(job).keys(), boosting in job.name
        assert not used if fits_itself else "loss._target_" in used
        folder = kind(job.config, job.choices)
        assert (folder == "toy-hist_gradient_boosting") == fits_itself


def test_a_job_can_be_sent_to_another_process() -> None:
    for job in plan(ARMS):
        assert pickle.loads(pickle.dumps(job)) == job
        assert type(job.config["model"]["hidden"]) is list


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["loss=bce,smoth_ap"], "smooth_ap"),
        (["seed=0,1", "trainer.max_epoch=5"], "did you mean 'trainer.max_epochs'?"),
        (["seed=0,x"], "seed=x: expected a whole number"),
        (["loss=bce,smooth_ap", "loss.queue_size=512"], "job loss=bce: loss.queue_size"),
        (["sweep.zip={seed:[1,2],optimizer.lr:[1]}"], "seed has 2, optimizer.lr has 1"),
        (["sweep.arms=[loss=bce]"], "[[...],[...]]"),
        (["sweep.n_jobs=0"], "sweep.n_jobs=0: expected 1 or more"),
        (["sweep.n_job=2"], "sweep.n_jobs"),
        (["sweep.on_error=halt"], "expected one of continue, stop"),
        (["optimizer.lr=interval(0,1)"], "an interval needs a search"),
        (["dataset=file", "dataset.path=no.csv,nor.csv", "dataset.target=y"], "no.csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_in_any_job_is_refused_in_one_line(
    arguments: list[str], answer: str, home: Path
) -> None:
    with pytest.raises(RequestError) as caught:
        plan(*arguments)
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not home.exists()


@pytest.fixture
def table(tmp_path: Path) -> list[str]:
    """A request for a small file of the user's own."""
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(40)))
    return ["dataset=file", f"dataset.path={path}", "dataset.target=y"]


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("dataset.target=why", "dataset.target=why is not a column: did you mean 'y'?"),
        ("dataset.group=c", "dataset.group=c is not a column"),
        ("dataset.drop=[a,c]", "dataset.drop=c is not a column"),
        ("dataset.positive_label=2", "dataset.positive_label=2 is not a value of 'y'"),
    ],
)
def test_a_column_or_label_that_the_file_lacks_is_refused_by_the_plan(
    table: list[str], typed: str, answer: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", "-m", *table, typed, "loss=bce", "seed=0,1", "sweep.dry_run=true"]
    assert main(asked) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert answer in line and not home.exists()


def test_a_table_trains_what_is_recommended_unless_a_model_or_loss_is_named(
    table: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "rarelab")
    with loader() as found:
        composer = Composer(found)

        def chosen(*more: str) -> tuple[str | None, str | None, int | None]:
            cfg, choices = composer.job(list(more))
            return choices["model"], choices["loss"], cfg.trainer.min_steps

        assert chosen(*table, "seed=3", "trainer.threads=2")[0] == "hist_gradient_boosting"
        assert [line for line in caplog.messages if "model=hist_gradient_boosting, as none" in line]
        assert chosen(*table, "loss=bce") == ("mlp", "bce", 500)
        assert chosen(*table, "model=linear") == ("linear", "smooth_ap", 500)
        assert chosen(*table, "experiments=losses") == ("mlp", "bce", 500)
        assert chosen(*table, "trainer.max_epochs=3") == ("mlp", "smooth_ap", None)
        assert chosen(*table, "loss=bce", "trainer.min_steps=9")[2] == 9
        assert chosen() == ("mlp", "smooth_ap", None)


def test_cfg_job_shows_what_training_adds(
    table: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["rarelab"])  # Hydra reads it, and the command fills it
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    for request in ([*table], [*table, "loss=bce"], [*table, "trainer.max_epochs=3"], ["seed=1"]):
        with loader() as found:
            cfg, _ = Composer(found).job(request)
        assert main(["train", *request, "--cfg", "job"]) == 0
        shown = OmegaConf.create(capsys.readouterr().out)
        assert shown.model == cfg.model and shown.trainer == cfg.trainer


def test_the_plan_says_how_many_arms_it_has_and_how_many_seeds_a_verdict_takes() -> None:
    assert arms_lines(plan("loss=bce", "seed=range(3)")) == []
    assert arms_lines(plan("loss=bce,smooth_ap", "seed=range(6)")) == [
        "  2 arms planned, each with 6 seeds"
    ]
    _, note = arms_lines(plan("loss=bce,smooth_ap,sigmoid_focal", "seed=range(6)"))
    assert "2 comparisons" in note and note.endswith("at least 7 seeds: 'seed=range(7)'")
    assert len(arms_lines(plan("experiments=losses"))) == 1


@pytest.mark.parametrize(
    "module",
    [
        *("runs.run", "runs.folder", "runs.evaluation", "config.build", "config.prepare"),
        *("metrics.reliability", "training.loop"),
    ],
)
def test_a_jobs_code_fingerprint_covers_what_affects_its_numbers(module: str, monkeypatch) -> None:
    read = sweep_signature._source
    before = code_fingerprint(["rarelab.losses.SmoothAPLoss"])

    def edited(name: str) -> bytes:
        return read(name) + (b"# edited" if name == f"rarelab.{module}" else b"")

    monkeypatch.setattr(sweep_signature, "_source", edited)
    assert code_fingerprint(["rarelab.losses.SmoothAPLoss"]) != before


def test_a_jobs_code_fingerprint_leaves_out_display_storage_and_launch() -> None:
    modules = code_modules(["rarelab.losses.SmoothAPLoss"])
    shown = ("runs.console", "runs.summary", "figures", "cli", "compare")
    for name in (*shown, "tracking", "sweep", "predict"):
        assert not [module for module in modules if f"{module}.".startswith(f"rarelab.{name}.")]
    assert {"torch (version)", "numpy (version)", "scipy (version)", "pandas (version)"} <= {
        *modules
    }
    assert "rarelab.losses.focal" not in modules  # another loss


def test_a_class_defined_in_the_script_itself_is_refused(monkeypatch) -> None:
    import __main__

    monkeypatch.setattr(
        __main__, "Loss", type("Loss", (), {"__module__": "__main__"}), raising=False
    )
    with pytest.raises(RequestError, match=r"__main__\.Loss: .* move it to a module"):
        plan("seed=0,1", "allow_targets=[__main__]", "+lr_schedule._target_=__main__.Loss")


SWEPT = [path for path in sorted(STUDIES.glob("*.yaml")) if "# Jobs:" in path.read_text()]


@pytest.mark.parametrize("study", SWEPT, ids=lambda path: path.stem)
def test_a_study_has_as_many_jobs_as_it_says(study: Path) -> None:
    """Only one seed's or split's jobs are composed, since the others differ in nothing else.
    Trials are not counted."""
    seeds: list[str] = []

    def of_the_first_seed(overrides: Sequence[str]) -> bool:
        (seed,) = [one for one in overrides if one.startswith(("seed=", "dataset.split_seed="))]
        seeds.extend({seed} - {*seeds})
        return seed == seeds[0]

    (stated,) = re.findall(r"^# Jobs: +(\d+)$", study.read_text(), flags=re.MULTILINE)
    jobs = plan(f"experiments={study.stem}", keep=of_the_first_seed)
    assert len(jobs) * len(seeds) == int(stated)


@pytest.mark.parametrize("study", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_study_that_sweeps_states_the_number_of_its_jobs(study: Path) -> None:
    content = yaml.safe_load(study.read_text())
    of_another = {path.stem for path in SWEPT} & {d for d in content["defaults"] if str(d) == d}
    sweeps = "sweep" in content or "hydra" in content or bool(of_another)
    assert ("# Jobs:" in study.read_text()) == sweeps


def test_the_command_line_narrows_a_study() -> None:
    jobs = plan("experiments=creditcard", "seed=5", "trainer.max_epochs=6")
    assert len(jobs) == 6
    assert {job.config["seed"] for job in jobs} == {5}
    assert {job.config["trainer"]["max_epochs"] for job in jobs} == {6}


@pytest.mark.parametrize("name", ["t (1).csv", "año.csv", "it's.csv", "a=b.csv", "t [2].csv"])
def test_a_file_of_any_name_needs_no_hydra_quoting(name: str) -> None:
    for typed in (f"dataset.path={name}", f"dataset.target={name}"):
        cfg, _ = compose_train(["dataset=file", as_meant(typed)])
        assert name in (cfg.dataset.path, cfg.dataset.target)
    for as_it_is in ("dataset.path='t (1).csv'", "dataset.path=a.csv,b.csv", "seed=range(3"):
        assert as_meant(as_it_is) == as_it_is


def test_digits_are_read_as_text_where_only_text_is_meant() -> None:
    typed = ["dataset.target=30", "dataset.drop=[2019,1e5,card #]", "trainer.precision=32"]
    cfg, _ = compose_train(["dataset=file", *map(as_meant, typed), "dataset.path=t.csv"])
    assert (cfg.dataset.target, cfg.trainer.precision) == ("30", "32")
    assert cfg.dataset.drop == ["2019", "1e5", "card #"]
    assert as_meant("trainer.precision=32,bf16") == 'trainer.precision="32",bf16'
    assert as_meant("dataset.target=null") == "dataset.target=null"
    assert as_meant("experiment=mine") == "tracking.experiment=mine"


@pytest.mark.parametrize("rule", [">0", "<=-1.5", "==0", "!=0", "> 0"])
def test_a_rule_needs_no_hydra_quoting(rule: str) -> None:
    cfg, _ = compose_train(["dataset=file", as_meant(f"dataset.positive_if={rule}")])
    assert cfg.dataset.positive_if == rule


def test_a_name_with_a_comma_gets_advice_to_quote_it() -> None:
    with loader() as found, pytest.raises(RequestError, match="commas mean a sweep") as error:
        Composer(found).job(["dataset=file", "dataset.path=a,b.csv"])
    assert "dataset.path='\"a,b.csv\"'" in str(error.value)


BY_NAME = ["-m", "dataset=kdd_census", "seed=0,1"]


@pytest.mark.parametrize(
    "request_", [BY_NAME, [*BY_NAME[:2], "hydra/sweeper=optuna", "optimizer.lr=interval(0.1,0.2)"]]
)
def test_a_dry_run_needs_no_archive_and_a_run_without_it_is_refused_up_front(
    request_: list[str],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """This data set's archive needs a build step, so it is never fetched implicitly."""
    monkeypatch.setenv("RARELAB_DATA", str(tmp_path / "empty"))
    assert main(["train", *request_, "sweep.dry_run=true"]) == 0
    assert "optuna" in str(request_) or "data fetch kdd_census" in capsys.readouterr().out
    assert main(["train", *request_]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: kdd_census is not in ") and "data fetch kdd_census" in line
    assert not home.exists() and not (tmp_path / "empty").exists()
