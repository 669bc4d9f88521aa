"""The dashboard in a real browser: the results are visible without a click."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement

from browser import chromium, dashboard, open_page, texts, wait
from rarelab.dashboard.view import METRIC_COLUMNS
from rarelab.records.load import Records, Run

pytestmark = pytest.mark.slow

LOSSES = ("bce", "smooth_ap", "recall_at_quantile")
SWEEP = [
    f"loss={','.join(LOSSES)}",
    "seed=0,1",
    "dataset.n_samples=4000",
    "dataset.pos_rate=0.03",
    "budget=0.02",
    "trainer.max_epochs=4",
    "schedule.warmup_epochs=1",
    "schedule.blend_epochs=1",
    "tracking.experiment=alerts",
]


def rarelab(home: Path, *arguments: str) -> None:
    environment = {**os.environ, "RARELAB_HOME": str(home)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "rarelab", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """A user's sweep over three losses and two seeds, and its verdict."""
    home = tmp_path_factory.mktemp("home")
    rarelab(home, "train", "-m", *SWEEP)
    rarelab(home, "compare", "experiment=alerts", "baseline=bce")
    return Records(home, f"sqlite:///{home / 'mlflow.db'}")


@pytest.fixture(scope="module")
def runs(records: Records) -> list[Run]:
    return records.runs("alerts")


@pytest.fixture(scope="module")
def arms(runs: list[Run]) -> list[tuple[str, float, float]]:
    """Loss, mean and standard deviation of test AUCPR over the seeds, best mean first."""
    values = {
        loss: [run.metrics["test/aucpr"] for run in runs if run.params["loss"] == loss]
        for loss in LOSSES
    }
    found = [(loss, statistics.fmean(v), statistics.stdev(v)) for loss, v in values.items()]
    return sorted(found, key=lambda arm: -arm[1])


@pytest.fixture(scope="module")
def pages(records: Records) -> Iterator[dict[str, str]]:
    with dashboard(records.home, "alerts") as said:
        yield said


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with chromium(tmp_path_factory.mktemp("profile"), width=2600) as opened:
        yield opened


NAME = "[role=gridcell][col-id='attributes.`Run Name`']"


def test_the_page_opens_on_the_verdict_and_the_arms_best_mean_first(
    browser: WebDriver,
    pages: dict[str, str],
    arms: list[tuple[str, float, float]],
    tmp_path: Path,
) -> None:
    open_page(browser, pages["alerts, runs"])
    shown = [
        "Group: verdict: toy: 2 arms against loss=bce: 2 not settled",
        *(
            f"Group: {mean:.4f} ± {sd:.4f} loss={loss} (test AUCPR, 2 runs)"
            for loss, mean, sd in arms
        ),
    ]
    wait(browser, lambda: len(texts(browser, f"{NAME} span[title]")) >= len(shown))
    assert texts(browser, f"{NAME} span[title]") == shown
    # The sweep's own run is the only one: those of an arm are shown on a click.
    assert [name for name in texts(browser, f"{NAME} a") if name] == ["sweep of 6 jobs"]
    browser.save_screenshot(str(tmp_path / "arms.png"))


def test_the_runs_of_an_arm_are_shown_on_a_click_with_four_digits(
    browser: WebDriver,
    pages: dict[str, str],
    runs: list[Run],
    arms: list[tuple[str, float, float]],
    tmp_path: Path,
) -> None:
    open_page(browser, pages["alerts, runs"])
    best = arms[0][0]
    rows = [cell for cell in browser.find_elements(By.CSS_SELECTOR, NAME) if best in cell.text]
    rows[0].find_element(By.CSS_SELECTOR, "[role=button]").click()
    members = {run.name: run for run in runs if run.params["loss"] == best}
    wait(browser, lambda: set(members) <= set(texts(browser, f"{NAME} a")))
    header = "[role=columnheader][col-id*='`']"
    columns = {
        column.get_attribute("col-id") for column in browser.find_elements(By.CSS_SELECTOR, header)
    }
    # The page has those in its window; the last ones are reached by scrolling.
    first = METRIC_COLUMNS[: METRIC_COLUMNS.index("test/aucpr") + 1]
    first = [*first, "test/recall_at_budget"]
    wanted = {"params.`loss`", *(f"tags.`{key}`" for key in first)}
    assert columns >= wanted
    values = texts(browser, "[role=gridcell][col-id='tags.`test/aucpr`']")
    results = [f"{run.metrics['test/aucpr']:.4f}" for run in members.values()]
    assert sorted(value for value in values if value.strip("-")) == sorted(results)
    values = texts(browser, "[role=gridcell][col-id='tags.`test/recall_at_budget`']")
    results = [f"{run.metrics['test/recall_at_budget']:.4f}" for run in members.values()]
    assert sorted(value for value in values if value.strip("-")) == sorted(results)
    browser.save_screenshot(str(tmp_path / "runs.png"))


def test_the_page_is_in_its_mode_for_model_training(
    browser: WebDriver, pages: dict[str, str]
) -> None:
    open_page(browser, pages["alerts, runs"])
    assert "Model registry" in browser.find_element(By.TAG_NAME, "nav").text
    for other in ("Prompts", "Judges", "Playground"):
        assert other not in browser.find_element(By.TAG_NAME, "nav").text


def test_the_arms_share_a_chart_of_recall_whose_axis_is_in_per_cent_of_the_rows(
    browser: WebDriver, pages: dict[str, str], tmp_path: Path
) -> None:
    open_page(browser, pages["alerts, charts"])
    wait(browser, lambda: len(lines(cards(browser, "curve/recall_at_q")[1])) >= len(LOSSES))
    for drawn, most in zip(cards(browser, "curve/recall_at_q"), ("1", "10"), strict=True):
        assert all(curve.count("L") > 5 for curve in lines(drawn))
        legend = " ".join(texts(drawn, "span"))
        assert all(f"loss={loss}" in legend for loss in LOSSES)
        assert texts(drawn, ".xtitle") == ["curve/per cent of rows"]
        assert texts(drawn, ".xtick text")[-1] == most
    wait(browser, lambda: lines(cards(browser, "curve/precision_at_recall")[0]))
    browser.save_screenshot(str(tmp_path / "charts.png"))


def test_the_bars_are_the_means_of_the_arms(
    browser: WebDriver, pages: dict[str, str], arms: list[tuple[str, float, float]]
) -> None:
    open_page(browser, pages["alerts, charts"])
    bars = "text.bartext"
    wait(browser, lambda: len(texts(cards(browser, "test/aucpr")[0], bars)) == len(arms))
    drawn = [float(text) for text in texts(cards(browser, "test/aucpr")[0], bars)]
    means = [mean for _, mean, _ in arms]
    assert sorted(drawn, reverse=True) == pytest.approx(means, abs=0.005)


HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def report(records: Records, runs: list[Run]) -> Path:
    """The sweep's report, with one run named like a script."""
    records.client.update_run(runs[0].run_id, name=HOSTILE)
    rarelab(records.home, "compare", "experiment=alerts", "baseline=bce")
    records.client.update_run(runs[0].run_id, name=runs[0].name)
    (found,) = (records.home / "reports" / "alerts" / "latest").glob("*.html")
    return found


def test_the_report_sorts_and_filters_its_tables(
    browser: WebDriver, report: Path, runs: list[Run], tmp_path: Path
) -> None:
    browser.get(report.as_uri())
    assert browser.find_element(By.CSS_SELECTOR, ".verdict .headline").is_displayed()
    rows = "table[data-name=runs] tbody tr"
    head = browser.find_elements(By.CSS_SELECTOR, "table[data-name=runs] thead button")[-1]
    ordered = sorted(run.metrics["test/aucpr"] for run in runs)
    for expected in (ordered, ordered[::-1]):
        head.click()
        shown = [float(text) for text in texts(browser, f"{rows} td:last-child")]
        assert shown == pytest.approx(expected, abs=1e-3)
    field = browser.find_elements(By.CSS_SELECTOR, "input.filter")[-1]
    field.send_keys("smooth_ap")
    visible = [row for row in browser.find_elements(By.CSS_SELECTOR, rows) if row.is_displayed()]
    assert len(visible) == 2 and all("smooth_ap" in row.text for row in visible)
    field.clear()
    field.send_keys("a")
    browser.save_screenshot(str(tmp_path / "report.png"))


def test_the_question_the_answer_and_the_picture_fit_on_the_first_screen(
    browser: WebDriver, report: Path
) -> None:
    browser.get(report.as_uri())
    assert texts(browser, ".asked dt")[-1] == "Budget"
    (answer,) = texts(browser, ".answer")
    assert answer.startswith(("Switch to", "Keep cross-entropy", "Not settled"))
    picture = "return document.querySelector('.lead img').getBoundingClientRect().bottom"
    assert 300 < browser.execute_script(picture) < 780


def test_a_name_in_the_report_is_text_and_pictures_are_shown(
    browser: WebDriver, report: Path, runs: list[Run]
) -> None:
    browser.get_log("browser")  # drop the messages of earlier pages
    browser.get(report.as_uri())
    assert HOSTILE in browser.find_element(By.CSS_SELECTOR, "table[data-name=runs]").text
    widths = browser.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(widths) >= 3 and min(widths) > 100
    links = {
        link.get_attribute("href")
        for link in browser.find_elements(By.CSS_SELECTOR, "table[data-name=runs] a")
    }
    assert {link.rpartition("/")[2] for link in links if link} == {run.run_id for run in runs}
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def cards(browser: WebDriver, title: str) -> list[WebElement]:
    """The charts with this title."""
    found = browser.find_elements(
        By.CSS_SELECTOR, "[data-testid=experiment-view-compare-runs-card]"
    )
    return [c for c in found if c.find_elements(By.CSS_SELECTOR, f"h4[title='{title}']")]


def lines(chart: WebElement) -> list[str]:
    """The drawn paths of a line chart."""
    paths = chart.find_elements(By.CSS_SELECTOR, ".scatterlayer .trace path.js-line")
    return [path.get_attribute("d") or "" for path in paths]
