"""``rarelab ui [EXPERIMENT]``: the dashboard, opened on the view of one experiment."""

import os
import sys
import time
import webbrowser
from pathlib import Path

from rarelab.dashboard.arms import TRIALS, arms, new_tags, sweeps
from rarelab.dashboard.colours import TAG as COLOUR_TAG
from rarelab.dashboard.colours import colours
from rarelab.dashboard.view import TAG, link, tag_value
from rarelab.errors import RarelabError, RequestError
from rarelab.records.load import Records
from rarelab.tracking import serve, store
from rarelab.tracking.redact import redact_uri


def ui(home: Path, experiment: str | None, *, uri: str | None, port: int, browser: bool) -> int:
    """Set the view, print its address and run the server until stopped; return the exit code.

    If the records are on a server already, only set the view there and print its address.

    Raises:
        RequestError: there is no such experiment, or nothing has been recorded.
        RarelabError: the server does not start.
    """
    address = store.resolve_uri(home, uri)
    pages = _pages(Records(home, uri), experiment)

    def ready(server: str) -> None:
        for name, page in pages.items():
            print(f"{name}: {server}/{page}", flush=True)
        if browser and _has_screen():
            webbrowser.open(f"{server}/{next(iter(pages.values()))}")

    if address.startswith("http"):
        print(f"the records are on a server: {redact_uri(address)}", flush=True)
        ready(redact_uri(address).rstrip("/"))
        return 0
    return serve(home, uri=uri, port=port, ready=ready)


def publish(records: Records, experiment: str | None = None) -> tuple[str, str]:
    """Set the view of an experiment (None: the one with the newest run) and its runs' arms and
    colours; return its name and id.

    Raises:
        RequestError: there is no such experiment, or no run in it.
    """
    from mlflow.entities import RunTag

    name = experiment or _newest(records)
    runs = records.runs(name)
    experiment_id = records.experiments()[name]
    now = time.time_ns() // 1_000_000
    parents = records.parents(name)
    named = arms(runs)
    view = tag_value(runs, [*named.values(), TRIALS], now)
    records.client.set_experiment_tag(experiment_id, TAG, view)
    painted = {run_id: {COLOUR_TAG: colour} for run_id, colour in colours(runs).items()}
    tags = new_tags([*runs, *parents], named | sweeps(parents))
    for run_id in {**painted, **tags}:
        new = painted.get(run_id, {}) | tags.get(run_id, {})
        tagged = [RunTag(key, value) for key, value in new.items()]
        records.client.log_batch(run_id, tags=tagged)
    return name, experiment_id


def _pages(records: Records, experiment: str | None) -> dict[str, str]:
    """The pages to show, by title, as paths below the server's address."""
    try:
        name, experiment_id = publish(records, experiment)
    except RequestError:
        raise
    except RarelabError as error:
        print(f"the view could not be set: {error}", flush=True)
        return {"all experiments": "#/experiments"}
    return {
        f"{name}, runs": link(experiment_id),
        f"{name}, charts": link(experiment_id, "CHART"),
    }


def _newest(records: Records) -> str:
    """The name of the experiment with the newest run."""
    ids = records.experiments()
    found = records.client.search_runs(
        list(ids.values()), max_results=1, order_by=["attributes.start_time DESC"]
    )
    if not found:
        raise RequestError("nothing has been recorded yet; start with `rarelab train`")
    names = {experiment_id: name for name, experiment_id in ids.items()}
    return names[found[0].info.experiment_id]


def _has_screen() -> bool:
    """Whether a browser would open in a window rather than take over the terminal."""
    if not sys.stdout.isatty():
        return False
    shown = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in shown)
