"""The dashboard as its users see it, in a real browser: no click, and the answer is there."""

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
from rarelab.compare.load import Records, Run
from rarelab.dashboard.view import METRIC_COLUMNS

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
    """Three losses on two seeds, as a user sweeps them."""
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


def test_the_recall_curves_of_the_runs_lie_over_one_another(
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
    # A logarithmic axis: the decades stand at equal distances.
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


def card(browser: WebDriver, title: str) -> WebElement:
    """The chart of that title."""
    found = browser.find_elements(
        By.CSS_SELECTOR, "[data-testid=experiment-view-compare-runs-card]"
    )
    return next(c for c in found if c.find_elements(By.CSS_SELECTOR, f"h4[title='{title}']"))


def drawn_lines(chart: WebElement) -> list[WebElement]:
    return chart.find_elements(By.CSS_SELECTOR, ".scatterlayer .trace path.js-line")


def lines(chart: WebElement) -> list[str]:
    """The drawn paths of a line chart."""
    return [path.get_attribute("d") or "" for path in drawn_lines(chart)]
