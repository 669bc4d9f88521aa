"""``rarelab compare`` end to end: terminal, report, tables, the sweep's run, exit codes."""

import csv
import json
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from rarelab import cli
from rarelab.compare.command import compare, options_of
from rarelab.compare.report import new_folder, point_latest
from rarelab.config.compose import config_dir, quoted
from rarelab.errors import RequestError
from rarelab.records.load import Records
from recorded import BCE, SMOOTH_AP, leave_files, record, scored

SCRIPT = "<script>alert(1)</script>"
NASTY = {"loss": "a|b_$x^2$ {50%} & <b>\x1b[31m", "loss._target_": "mine.Loss"}
QUEUES = [{**SMOOTH_AP, "loss.queue_size": size} for size in ("1024", "8192")]


class Page(HTMLParser):
    """The tags, attributes and visible text of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data) -> None:
        self.text.append(data)


def sweep(home: Path, seeds: int = 8) -> str:
    """Record four arms with all their files under a parent sweep run; returns that run's id."""
    parent = record(
        home, BCE, 0, {}, name="the sweep",
        tags={"rarelab.kind": "sweep", "rarelab.sweep": "s1", "mlflow.note.content": "mine"},
    )  # fmt: skip
    arms = zip([BCE, *QUEUES, NASTY], (1.0, 2.0, 1.1, 0.5), strict=True)
    for number, (arm, shift) in enumerate(arms):
        for seed in range(seeds):
            directory = home / "runs" / "study" / f"{number}-{seed}"
            own = scored(1500, 30, shift, draw=2, noise=0.3, seed=10 * number + seed)
            metrics = leave_files(directory, *own)
            tags = {
                "mlflow.parentRunId": parent,
                "rarelab.sweep": "s1",
                "rarelab.command": "rarelab train -m loss=bce,smooth_ap",
                "rarelab.data": "creditcard(sha256=abc)",
            }
            name = SCRIPT if number == seed == 0 else None
            record(home, arm, seed, metrics, tags=tags, directory=directory, name=name)
    return parent


def composed(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        return compose("compare", quoted(list(overrides)))


def ask(*overrides: str) -> Path:
    cfg = OmegaConf.to_container(composed(*overrides), resolve=True)
    assert isinstance(cfg, dict)
    report = compare(cfg, overrides)
    assert report is not None
    return report


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory):
    """The study's home, the report folder, the sweep's run id and the terminal output."""
    home = tmp_path_factory.mktemp("module") / "home"
    parent = sweep(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        told: list[str] = []
        patch.setattr("builtins.print", lambda *parts, **_: told.append(" ".join(map(str, parts))))
        costs = ["costs.false_alert=5", "costs.missed_positive=100", "costs.rows_per_month=1e6"]
        report = ask(f"paths.home={home}", "experiment=study", "baseline=bce", *costs)
    return home, report.parent, parent, "\n".join(told)


def test_the_terminal_has_the_verdict_first_then_the_table(reported) -> None:
    _, folder, parent, told = reported
    lines = told.splitlines()
    best = "loss=smooth_ap queue_size=1024"
    assert lines[0].startswith(f"Switch to {best}: AUCPR higher by 0.")
    assert re.search(
        r"; [\d,]+ more positives caught a month at 5,000 alerts, between \d", lines[0]
    )
    assert lines[2].startswith("creditcard: 3 arms against loss=bce: 1 better, ")
    assert told.index("queue_size=1024: better") < told.index("interval of the mean")
    assert "a month" in told or "per month" in told
    assert f"also attached to the sweep's run {parent} (the sweep)" in told
    assert lines[-1] == f"report: {folder / 'report.html'}"
    assert "\x1b" not in told


def test_names_of_runs_and_arms_are_text_in_the_report(reported) -> None:
    text = (reported[1] / "report.html").read_text(encoding="utf-8")
    assert SCRIPT not in text and text.count("<script>") == 1
    page = Page(text)
    assert SCRIPT in page.text
    assert "b" not in page.tags
    assert any("a|b_$x^2$ {50%} & <b>" in part for part in page.text)


def test_the_report_needs_nothing_but_itself(reported) -> None:
    home, folder, *_ = reported
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    run_ids = {run.run_id for run in Records(home).runs("study")}
    runs = [link for link in page.links if link.startswith("http://127.0.0.1:5000/#/experiments/")]
    assert {link.rpartition("/")[2] for link in runs} == run_ids
    assert all(link in runs or link.startswith("data:image/svg+xml;") for link in page.links)
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", text)


def test_the_report_has_the_answer_verdicts_tables_pictures_and_sources_in_order(reported) -> None:
    text = (reported[1] / "report.html").read_text(encoding="utf-8")
    parts = [
        "Judged by", "AUCPR (test/aucpr); less than 0.01 counts as equal", "(5,000 alerts a month)",
        'class="answer switch"', "Switch to loss=smooth_ap queue_size=1024: AUCPR higher by",
        "<img ", "positives caught by share of the test rows flagged", 'class="headline"',
        "Per month", "Numbers", 'data-name="numbers"', "Figures",
        'data-name="runs"', "Reproduce every number", "rarelab compare paths.home=",
        "rarelab reproduce RUN_ID", "rarelab train -m loss=bce,smooth_ap   # 32 runs",
        "Environment and data", "creditcard(sha256=abc)",
    ]  # fmt: skip
    text = re.sub(r'<img alt="[^"]*"', "<img ", text)
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.count("<img ") == 6


def test_figures_are_written_for_print_and_screen(reported) -> None:
    folder = reported[1] / "figures"
    names = {path.stem for path in folder.glob("*.svg")}
    assert names == {
        "recall_at_budget", "differences", "precision_by_recall", "reliability", "training",
        "sensitivity-loss.queue_size",
    }  # fmt: skip
    for name in names:
        assert (folder / f"{name}.pdf").stat().st_size and (folder / f"{name}.png").stat().st_size


def test_tables_agree_in_all_four_formats(reported) -> None:
    folder = reported[1]
    with (folder / "table.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    content = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    verdicts = [row["verdict"] for row in rows]
    assert verdicts[:2] == ["baseline", "better"] and len(verdicts) == 4
    assert [row["arm"] for row in content["table"]] == [row["arm"] for row in rows]
    best = content["table"][1]
    assert float(rows[1]["difference"]) == best["difference"]
    d = content["findings"][0]["differences"][best["arm"]]
    assert best["difference"] == pytest.approx(np.mean(d)) and best["pairs"] == 8
    markdown = (folder / "table.md").read_text(encoding="utf-8")
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "<b>" not in markdown
    latex = (folder / "table.tex").read_text(encoding="utf-8")
    assert r"a|b\_\$x\textasciicircum{}2\$ \{50\%\} \& \textless{}b\textgreater{}" in latex


def test_the_sweeps_run_has_words_numbers_and_files_and_keeps_its_own(reported) -> None:
    home, folder, parent, _ = reported
    records = Records(home)
    run = records.run(parent)
    note = run.tags["mlflow.note.content"]
    assert "1 better" in note and note.endswith("mine") and "<b>" not in note
    assert "3 arms against loss=bce: 1 better" in run.tags["rarelab.verdict"]
    found = {key: value for key, value in run.metrics.items() if key.startswith("verdict/")}
    assert len(found) == 6
    best = json.loads((folder / "table.json").read_text(encoding="utf-8"))["table"][1]
    assert found["verdict/loss_smooth_ap queue_size_1024/difference"] == best["difference"]
    files = {file.path for file in records.client.list_artifacts(parent, "verdict")}
    assert {"verdict/report.html", "verdict/table.csv", "verdict/figures"} <= files


def test_a_second_verdict_replaces_the_first_but_no_file(reported, capsys) -> None:
    home, folder, parent, _ = reported
    before = (folder / "report.html").read_bytes()
    own = folder.parent / "notes.txt"
    own.write_text("mine", encoding="utf-8")
    again = ask(f"paths.home={home}", "experiment=study", "baseline=queue_size=1024").parent
    assert again != folder and (folder / "report.html").read_bytes() == before
    assert (folder.parent / "latest").resolve() == again.resolve()
    assert own.read_text(encoding="utf-8") == "mine"
    note = Records(home).run(parent).tags["mlflow.note.content"]
    assert note.count("<!-- verdict -->") == 1 and note.endswith("mine")
    assert "against loss=smooth" in note.replace("\\", "") and "against loss=bce" not in note


def test_a_user_folder_called_latest_is_kept(tmp_path: Path) -> None:
    folder = new_folder(tmp_path, "a/../b c")
    assert folder.parent.parent == tmp_path / "reports"
    (folder.parent / "latest").mkdir()
    point_latest(folder)
    assert not (folder.parent / "latest").is_symlink()


def test_the_report_is_written_without_a_sweep_too(home: Path, capsys) -> None:
    for seed in range(2):
        record(home, BCE, seed, {"test/aucpr": 0.5})
        record(home, SMOOTH_AP, seed, {"test/aucpr": 0.6})
    report = ask("experiment=study")
    told = capsys.readouterr().out
    assert (
        "no difference can be shown with fewer than 6 seeds" in told
        and "no parent sweep run" in told
    )
    assert report == home / "reports" / "study" / "compare-1" / "report.html"
    assert [path.stem for path in (report.parent / "figures").glob("*.svg")] == ["differences"]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["experiment=studdy"], "did you mean 'study'"),
        (["experiment=study", "metric=test/aucprr"], "did you mean 'test/aucpr'"),
        (["experiment=study", "baseline=bcee"], "did you mean 'bce'"),
        (["experiment=study", "sweep_id=s3"], "there are none"),
        (["experimnt=study"], "did you mean 'experiment'"),
        (["experiment=study", "level=high"], "level=high: expected a number"),
        (["runs=abc"], r"expected \[RUN_ID,RUN_ID\]"),
        (["report.by=country"], r"report\.by=country: expected \[COLUMN\]"),
        (["report.bye=[country]"], "did you mean 'report.by'"),
        (["margin=5 cought"], "margin=5 cought: expected a number in the metric's units, or"),
        (
            ["margin=0 caught", "experiment=study"],
            "margin=0 caught: expected more than 0 positives",
        ),
        (["margin=-1"], "margin=-1: expected a number, 0 or more"),
        (["margin=5 caught", "experiment=study"], "margin=5 caught: test/aucpr is not a recall"),
        (
            ["margin=5 caught", "metric=test/recall_at_q/0.01", "experiment=study"],
            "margin=5 caught: expected costs.rows_per_month too",
        ),
        (["runs=[a,b]"], "no run with this id"),
        ([], "expected the name of a recorded experiment"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(
    home: Path, capsys, monkeypatch: pytest.MonkeyPatch, arguments: list[str], answer: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["rarelab"])
    record(home, BCE, 0, {"test/aucpr": 0.5})
    record(home, SMOOTH_AP, 0, {"test/aucpr": 0.6})
    assert cli.main(["compare", *arguments]) == 2
    told = capsys.readouterr()
    assert not told.out and told.err.count("\n") == 1
    assert re.search(answer, told.err), told.err
    assert not (home / "reports").exists()


def test_the_command_runs_and_help_needs_no_heavy_library(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(6):
        record(home, BCE, seed, {"test/aucpr": 0.5 + 0.001 * seed})
        record(home, SMOOTH_AP, seed, {"test/aucpr": 0.6 + 0.002 * seed})
    assert cli.main(["compare", "experiment=study", "baseline=bce"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Switch to smooth_ap: AUCPR higher by 0.10")
    assert "\ncreditcard: loss=smooth_ap against loss=bce: better" in said
    blocked = "import sys; sys.modules.update(torch=None, mlflow=None); "
    for arguments, code in ((["--help"], 0), (["metrc=x"], 2)):
        asked = f"from rarelab.cli import main; sys.exit(main({['compare', *arguments]!r}))"
        done = subprocess.run(
            [sys.executable, "-c", blocked + asked], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert "rarelab compare" in done.stdout or "did you mean 'metric'" in done.stderr


@pytest.mark.parametrize("name", ["a b=c, {d}", "it's", "back\\slash =", "x: [1]"])
def test_a_name_reaches_the_comparison_as_typed(name: str) -> None:
    cfg = composed(f"experiment={name}", f"baseline={name}")
    assert (cfg.experiment, cfg.baseline) == (name, name)


def test_the_readmes_comparisons_are_valid_requests() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^rarelab compare (.*)$", readme, flags=re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        cfg = OmegaConf.to_container(composed(*shlex.split(command)), resolve=True)
        assert isinstance(cfg, dict)
        options_of(cfg).check()


def test_a_negative_cost_is_refused() -> None:
    with pytest.raises(RequestError, match=r"costs\.false_alert=-1: expected a number"):
        ask("experiment=x", "costs.false_alert=-1")
