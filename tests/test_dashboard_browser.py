"""The dashboard in a real browser: the results are visible without a click."""

import os
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
    "trainer.max_epochs=4",
    "schedule.warmup_epochs=1",
    "schedule.blend_epochs=1",
    "tracking.experiment=alerts",
]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """A user's sweep over three losses and two seeds."""
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "RARELAB_HOME": str(home)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "rarelab", "train", "-m", *SWEEP]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Records(home, f"sqlite:///{home / 'mlflow.db'}")


@pytest.fixture(scope="module")
def runs(records: Records) -> list[Run]:
    """The runs, best test AUCPR first."""
    return sorted(records.runs("alerts"), key=lambda run: -run.metrics["test/aucpr"])


@pytest.fixture(scope="module")
def pages(records: Records) -> Iterator[dict[str, str]]:
    with dashboard(records.home, "alerts") as said:
        yield said


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with chromium(tmp_path_factory.mktemp("profile"), width=2200) as opened:
        yield opened


def test_the_page_opens_on_the_runs_with_their_metrics_as_columns(
    browser: WebDriver, pages: dict[str, str], runs: list[Run], tmp_path: Path
) -> None:
    open_page(browser, pages["alerts, runs"])
    names = [run.name for run in runs]
    assert set(names) == {f"loss={loss} seed={seed}" for loss in LOSSES for seed in (0, 1)}
    cell = "[role=gridcell][col-id='attributes.`Run Name`'] a"
    wait(browser, lambda: set(names) <= set(texts(browser, cell)))
    assert [name for name in texts(browser, cell) if name in names] == names
    header = "[role=columnheader][col-id*='`']"
    shown = {
        column.get_attribute("col-id") for column in browser.find_elements(By.CSS_SELECTOR, header)
    }
    wanted = {"params.`loss`", "params.`seed`", *(f"metrics.`{key}`" for key in METRIC_COLUMNS)}
    assert shown >= wanted
    values = texts(browser, "[role=gridcell][col-id='metrics.`test/aucpr`']")
    assert float(values[0]) == pytest.approx(runs[0].metrics["test/aucpr"])
    browser.save_screenshot(str(tmp_path / "runs.png"))


def test_the_page_is_in_its_mode_for_model_training(
    browser: WebDriver, pages: dict[str, str]
) -> None:
    open_page(browser, pages["alerts, runs"])
    assert "Model registry" in browser.find_element(By.TAG_NAME, "nav").text
    for other in ("Prompts", "Judges", "Playground"):
        assert other not in browser.find_element(By.TAG_NAME, "nav").text


def test_the_recall_curves_of_the_runs_share_one_chart(
    browser: WebDriver, pages: dict[str, str], runs: list[Run], tmp_path: Path
) -> None:
    open_page(browser, pages["alerts, charts"])
    wait(browser, lambda: len(lines(card(browser, "curve/recall_at_q"))) >= len(runs))
    drawn = card(browser, "curve/recall_at_q")
    assert all(curve.count("L") > 5 for curve in lines(drawn))
    legend = " ".join(texts(drawn, "span"))
    assert all(run.name in legend for run in runs)
    colours = [line.value_of_css_property("stroke") for line in drawn_lines(drawn)]
    assert len(set(colours)) == len(LOSSES)
    # On a logarithmic axis, decades are equally spaced.
    decades = {
        tick.text: tick.location["x"]
        for tick in drawn.find_elements(By.CSS_SELECTOR, ".xtick text")
        if tick.text in ("1", "10", "100")
    }
    assert decades["100"] - decades["10"] == pytest.approx(decades["10"] - decades["1"], abs=8)
    wait(browser, lambda: lines(card(browser, "curve/precision_at_recall")))
    browser.save_screenshot(str(tmp_path / "charts.png"))


def test_the_parallel_coordinates_merge_no_values(
    browser: WebDriver, pages: dict[str, str], tmp_path: Path
) -> None:
    open_page(browser, pages["alerts, charts"])
    wait(browser, lambda: texts(browser, ".parcoords .tick text"))
    assert texts(browser, ".parcoords .label") == [
        "loss",
        "hp/seed",
        "best/val_aucpr",
        "test/aucpr",
    ]
    first = browser.find_elements(By.CSS_SELECTOR, ".parcoords .dimension")[0]
    assert sorted(texts(first, ".tick text")) == sorted(LOSSES)
    browser.save_screenshot(str(tmp_path / "parallel.png"))


HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def report(records: Records, runs: list[Run]) -> Path:
    """The sweep's report, with one run named like a script."""
    records.client.update_run(runs[0].run_id, name=HOSTILE)
    command = [sys.executable, "-m", "rarelab", "compare", "experiment=alerts", "baseline=bce"]
    environment = {**os.environ, "RARELAB_HOME": str(records.home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
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


def card(browser: WebDriver, title: str) -> WebElement:
    """The chart with this title."""
    found = browser.find_elements(
        By.CSS_SELECTOR, "[data-testid=experiment-view-compare-runs-card]"
    )
    return next(c for c in found if c.find_elements(By.CSS_SELECTOR, f"h4[title='{title}']"))


def drawn_lines(chart: WebElement) -> list[WebElement]:
    return chart.find_elements(By.CSS_SELECTOR, ".scatterlayer .trace path.js-line")


def lines(chart: WebElement) -> list[str]:
    """The drawn paths of a line chart."""
    return [path.get_attribute("d") or "" for path in drawn_lines(chart)]
