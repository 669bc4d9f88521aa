"""A headless Chromium for the page tests, and ``rarelab ui`` started the way a user does."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless",
    "--no-sandbox",  # Chromium refuses to start as root with its sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 120


@contextmanager
def chromium(folder: Path, width: int = 1600, height: int = 1300) -> Iterator[WebDriver]:
    """A browser whose profile is in ``folder``."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.fail(
            "chromium or chromedriver is missing: `make browser` installs Debian's packages"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


@contextmanager
def dashboard(home: Path, *arguments: str) -> Iterator[dict[str, str]]:
    """Run ``rarelab ui`` on ``home``; yields the addresses that it printed, by name."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "rarelab", "ui", *arguments, "--port", port, "--no-browser"]
    process = subprocess.Popen(
        command,
        env={**os.environ, "RARELAB_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    said: dict[str, str] = {}
    for line in process.stdout:
        name, _, address = line.partition(": ")
        said[name] = address.split()[0] if address else ""
        if name == "experiments":
            break
    try:
        yield said
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()


def wait(browser: WebDriver, ready: Callable[[], Any]) -> Any:
    """Wait until ``ready()`` is truthy and return it; tolerates a page that is still changing."""
    not_yet = [WebDriverException, StopIteration]
    waiting = WebDriverWait(browser, PATIENCE, 0.5, ignored_exceptions=not_yet)
    return waiting.until(lambda _: ready())


def texts(browser: Any, css: str) -> list[str]:
    """The texts of the elements that match a selector, in order, including SVG text."""
    found = browser.find_elements(By.CSS_SELECTOR, css)
    return [(element.get_attribute("textContent") or "").strip() for element in found]


def open_page(browser: WebDriver, address: str) -> None:
    """Load an address, with a full reload even if only its # part differs; close MLflow's chat."""
    browser.get("about:blank")
    browser.get(address)
    close = "button[data-component-id='mlflow.assistant.chat_panel.close']"
    wait(browser, lambda: texts(browser, "[role=gridcell] span[title]"))
    for button in browser.find_elements(By.CSS_SELECTOR, close):
        button.click()
