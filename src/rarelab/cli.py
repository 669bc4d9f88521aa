"""The command line: thin entry points with lazy imports."""

import argparse
import atexit
import errno
import gc
import io
import os
import sys
from collections.abc import Callable
from typing import Any

from rarelab.collector import own_process
from rarelab.errors import RarelabError, RequestError, Terminated, nearest
from rarelab.version import __version__

USAGE = """\
rarelab: does training on a ranking loss beat cross-entropy on your rare positives?

  rarelab train [OVERRIDES]            train one configured run and record it
  rarelab train -m [OVERRIDES]         a sweep: loss=bce,smooth_ap seed=range(5)
  rarelab train experiments=NAME       a named study (experiments/NAME.yaml)
  rarelab compare experiment=NAME      what can be claimed about its runs: tests, figures, a report
  rarelab data list                    list the real data sets and which are downloaded
  rarelab data fetch NAME...           download them with pinned hashes
  rarelab data path NAME               print where a data set is stored
  rarelab data describe FILE target=C  what each column of a table would become in training
  rarelab predict RUN_ID FILE          score a table, wherever it is; budget=0.005 also alerts
  rarelab record FILE experiment=NAME  predictions of another program as a run to compare
  rarelab export RUN_ID onnx           its preprocessing and model as one ONNX graph, checked
  rarelab refit RUN_ID                 its configuration once more, on all rows
  rarelab reproduce RUN_ID             train a recorded run again and compare every metric
  rarelab sync                         push records that are only on disk to MLflow
  rarelab ui [EXPERIMENT]              MLflow's dashboard of its runs, on 127.0.0.1

`rarelab train --help` lists the groups of the configuration; `rarelab train --cfg job` shows it.
"""

_PLACE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
)
"""Errors from a path that cannot be written: not bugs of this program, so no traceback."""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return the exit code: 0, 1 (it failed) or 2 (invalid request)."""
    if argv is None:
        own_process()
        # Without this, freeing the objects of torch and MLflow delays the exit by 2 s.
        atexit.register(gc.freeze)
    arguments = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal shows ? for other characters
    try:
        code = _run(arguments)
        _flush()
        return code
    except RarelabError as error:
        from rarelab.processes.place import wait_for_the_first
        from rarelab.tracking.redact import redact_command

        wait_for_the_first()
        print(f"error: {redact_command(str(error))}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            from rarelab.runs.console import nobody_reads

            nobody_reads()
        elif error.errno not in _PLACE:
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror}{where}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        print(f"error: out of memory: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Terminated) as error:
        more = ": the same command goes on from there" if arguments[:1] == ["train"] else ""
        print(f"interrupted{more}", file=sys.stderr)
        return 143 if isinstance(error, Terminated) else 130


def _out_of_memory(error: Exception) -> bool:
    """Includes torch's variants: its own class on a GPU, only a message on the CPU."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def _flush() -> None:
    """Flush while errors can still be handled; a reader that has gone is not an error."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        from rarelab.runs.console import nobody_reads

        nobody_reads()


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if arguments[0] == "--version":
        print(f"rarelab {__version__}")
        return 0
    return _command(arguments[0])(arguments[1:])


def _command(name: str) -> Callable[[list[str]], int]:
    commands = {
        "train": _train,
        "compare": _compare,
        "data": _data,
        "predict": _predict,
        "record": _record,
        "export": _export,
        "refit": _refit,
        "reproduce": _reproduce,
        "sync": _sync,
        "ui": _ui,
    }
    if name not in commands:
        raise RequestError(f"{name}: there is no such command; {nearest(name, commands)}")
    return commands[name]


def _train(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("--multirun", "-m", action="store_true")
    chosen, rest = parser.parse_known_args(arguments)
    sys.argv = ["rarelab train", *arguments]
    if any(item.startswith("-") for item in rest):
        return _hydra(arguments, chosen.config_dir)

    from rarelab.request import request
    from rarelab.runs.console import configure_console

    configure_console()
    results = request([*(["-m"] if chosen.multirun else []), *rest], chosen.config_dir)
    return int(isinstance(results, list) and any(result.failed for result in results))


def _hydra(arguments: list[str], folders: list[str]) -> int:
    """Hydra's own options: --help, --cfg job, --info, --hydra-help, --shell-completion."""
    import hydra

    from rarelab.config.compose import CONFIG_NAME, config_dir, one_line_errors, opened

    def job(_: Any) -> None:
        raise RequestError(f"{' '.join(arguments)}: these options cannot be combined")

    overrides = [item for item in arguments if not item.startswith("-")]
    # Hydra would print many lines and exit with 1; this documented switch lets errors through.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    with one_line_errors(overrides):
        sys.argv[1:] = opened(_filled_in(arguments, folders))
        hydra.main(version_base="1.3", config_path=config_dir(), config_name=CONFIG_NAME)(job)()
    return 0


def _filled_in(arguments: list[str], folders: list[str]) -> list[str]:
    """With ``--cfg job``, also the overrides that training adds: it shows what is trained."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--cfg", "-c")
    lines = [item for item in arguments if "=" in item and not item.startswith("-")]
    if not lines or parser.parse_known_args(arguments)[0].cfg != "job":
        return arguments
    from rarelab.config.compose_many import Composer, loader

    with loader(folders) as found:
        composer = Composer(found)
        added = [] if composer.sweeps(lines) else composer.recommended(lines)
    place = arguments.index(lines[-1])  # Hydra expects the overrides in one row
    return [*arguments[:place], *added, *arguments[place:]]


def _compare(arguments: list[str]) -> int:
    import hydra

    from rarelab.config.compose import config_dir, one_line_errors, quoted

    failures: list[Exception] = []

    def job(cfg: Any) -> None:
        from rarelab.compare.command import compare

        try:
            compare(cfg, overrides)
        except Exception as error:
            failures.append(error)

    overrides = [item for item in arguments if not item.startswith("-")]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = ["rarelab compare", *quoted(arguments)]
    with one_line_errors(overrides, "compare"):
        hydra.main(version_base="1.3", config_path=config_dir(), config_name="compare")(job)()
    if failures:
        with one_line_errors(overrides, "compare"):  # an interpolation of its values
            raise failures[0]
    return 0


def _data(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="rarelab data")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="list the data sets and which are downloaded")
    fetch = actions.add_parser("fetch", help="download with pinned hashes")
    fetch.add_argument("names", nargs="+", metavar="NAME")
    actions.add_parser("path", help="print where a data set is stored").add_argument(
        "name", metavar="NAME"
    )
    describe = actions.add_parser(
        "describe", help="what each column of a table becomes in training"
    )
    describe.add_argument("file", metavar="FILE", help="a table, named as by dataset.path")
    describe.add_argument(
        "settings",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="keys of dataset=file: target=COLUMN, positive_label=LABEL, drop=[COLUMN], csv.sep=;",
    )
    chosen = parser.parse_args(arguments)
    if chosen.action == "describe":
        return _describe(chosen.file, chosen.settings)

    from rarelab.data import commands
    from rarelab.runs.console import show

    if chosen.action == "list":
        show(commands.list_datasets())
    elif chosen.action == "fetch":
        commands.fetch(chosen.names)
    else:
        show(str(commands.path(chosen.name)))
    return 0


def _describe(file: str, settings: list[str]) -> int:
    from rarelab.config import build
    from rarelab.config.compose import compose_train
    from rarelab.data.describe import describe
    from rarelab.data.file import TableFile
    from rarelab.quoting import quoted
    from rarelab.runs.console import show

    given = [f"dataset.{setting.removeprefix('dataset.')}" for setting in settings]
    cfg, _ = compose_train(["dataset=file", f"dataset.path={quoted(file)}", *given])
    build.check_group(cfg, "dataset")
    table = build.dataset(cfg)
    assert isinstance(table, TableFile)
    text, refused = describe(table)
    show(text)
    if refused is not None:
        raise refused
    return 0


def _predict(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="rarelab predict")
    parser.add_argument("run", metavar="RUN_ID", help="MLflow id, its beginning, or folder name")
    parser.add_argument(
        "file",
        metavar="FILE",
        help="CSV, TSV, Parquet, Feather or Excel, packed or not; a folder or pattern of such"
        " files, an address (s3://, https://) or a query ('SELECT ...')",
    )
    parser.add_argument(
        "settings",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="budget=0.005, alerts=100, precision=0.9, recall=0.8, cost or costs=[[0,1],[50,1]],"
        " reasons=3, id=COLUMN, keep=[COLUMN], drop=[COLUMN], output=PATH"
        " (- for standard output), overwrite=true, on_bad=refuse, allow_targets=[..]",
    )
    parser.add_argument("--home", help="records folder; default: RARELAB_HOME, else outputs/")
    parser.add_argument("--uri", help="the MLflow store or server; default: the records' own")
    chosen = parser.parse_args(arguments)

    from rarelab.paths import home
    from rarelab.predict.command import predict, request

    asked = request(chosen.run, chosen.file, chosen.settings)
    done = predict(asked, home(chosen.home), chosen.uri)
    print(done, file=sys.stderr if asked.output == "-" else sys.stdout)
    return 0


def _record(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="rarelab record")
    parser.add_argument("file", metavar="FILE", help="predictions: CSV, TSV or Parquet")
    parser.add_argument(
        "settings",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="experiment=NAME, arm=NAME, target=COLUMN, score=COLUMN; positive_label=LABEL, seed=0,"
        " split=0, split_col=COLUMN (val or test), id=COLUMN, group=COLUMN, amount=COLUMN",
    )
    parser.add_argument("--home", help="records folder; default: RARELAB_HOME, else outputs/")
    parser.add_argument("--uri", help="the MLflow store or server; default: the records' own")
    chosen = parser.parse_args(arguments)

    from rarelab.paths import home
    from rarelab.runs.foreign import record, request

    asked = request(chosen.file, chosen.settings)
    _, summary = record(asked, home(chosen.home), chosen.uri)
    print(summary)
    return 0


def _export(arguments: list[str]) -> int:
    parser = _of_a_run("export")
    parser.add_argument("form", metavar="onnx", help="the format")
    parser.add_argument(
        "settings",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="output=PATH.onnx, tolerance=1e-5, allow_targets=[..]",
    )
    chosen = parser.parse_args(arguments)

    from rarelab.paths import home
    from rarelab.predict.export import export, request

    asked = request(chosen.run, chosen.form, chosen.settings)
    print(export(asked, home(chosen.home), chosen.uri))
    return 0


def _refit(arguments: list[str]) -> int:
    parser = _of_a_run("refit")
    parser.add_argument("settings", nargs="*", default=[], metavar="allow_targets=[MODULE]")
    chosen = parser.parse_args(arguments)

    from rarelab.paths import home
    from rarelab.runs.console import configure_console
    from rarelab.runs.refit import refit
    from rarelab.runs.reproduce import allowed_modules

    configure_console()
    refit(chosen.run, home(chosen.home), chosen.uri, allowed_modules(chosen.settings))
    return 0


def _of_a_run(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"rarelab {command}")
    parser.add_argument("run", metavar="RUN_ID", help="MLflow id, its beginning, or folder name")
    parser.add_argument("--home", help="records folder; default: RARELAB_HOME, else outputs/")
    parser.add_argument("--uri", help="the MLflow store or server, for runs not on disk")
    return parser


def _reproduce(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="rarelab reproduce")
    parser.add_argument("run", metavar="RUN_ID", help="MLflow id, its beginning, or folder name")
    parser.add_argument("settings", nargs="*", default=[], metavar="allow_targets=[MODULE]")
    parser.add_argument("--home", help="records folder; default: RARELAB_HOME, else outputs/")
    parser.add_argument("--uri", help="the MLflow store or server, for runs not on disk")
    chosen = parser.parse_args(arguments)

    from rarelab.paths import home
    from rarelab.runs.console import configure_console
    from rarelab.runs.reproduce import allowed_modules, reproduce

    configure_console()
    trusted = allowed_modules(chosen.settings)
    return reproduce(chosen.run, home(chosen.home), chosen.uri, trusted)


def _sync(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="rarelab sync")
    parser.add_argument("--home", help="records folder; default: RARELAB_HOME, else outputs/")
    parser.add_argument("--uri", help="the MLflow store or server; default: the records' own")
    chosen = parser.parse_args(arguments)

    from rarelab.paths import home
    from rarelab.tracking import close_dead_runs, sync

    close_dead_runs(home(chosen.home))
    print(sync(home(chosen.home), chosen.uri))
    return 0


def _ui(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="rarelab ui")
    parser.add_argument("experiment", nargs="?", help="default: the one with the newest run")
    parser.add_argument("--home", help="records folder; default: RARELAB_HOME, else outputs/")
    parser.add_argument("--uri", help="the MLflow store or server; default: the records' own")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    chosen = parser.parse_args(arguments)

    from rarelab.dashboard.command import ui
    from rarelab.paths import home
    from rarelab.runs.interruption import sigterm_raises

    with sigterm_raises():  # so that the server is stopped, too
        return ui(
            home(chosen.home),
            chosen.experiment,
            uri=chosen.uri,
            port=chosen.port,
            browser=not chosen.no_browser,
        )


if __name__ == "__main__":
    sys.exit(main())
