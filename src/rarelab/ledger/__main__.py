"""``python -m rarelab.ledger``: run, report and check the studies of ``experiments/``."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rarelab.errors import RarelabError, RequestError, nearest
from rarelab.ledger import pages, rerun
from rarelab.ledger.study import KeptStudy, studies
from rarelab.paths import config_root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 (a job failed, a run differs) or 2 (invalid request)."""
    chosen = parser().parse_args(arguments)
    try:
        return chosen.does(chosen)
    except RarelabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _run(chosen: argparse.Namespace) -> int:
    began = time.monotonic()
    named = _named(chosen.folder, chosen.names)
    for study in named:
        start = time.monotonic()
        print(f"== {rerun.run(study, chosen.jobs, retime=chosen.retime, launcher=chosen.launcher)}")
        print(f"== {study.name}: {_minutes_since(start)} now")
    print(f"== {len(named)} studies: {_minutes_since(began)} now")
    return _report(chosen)


def _minutes_since(start: float) -> str:
    return f"{(time.monotonic() - start) / 60:.1f} min"


def _report(chosen: argparse.Namespace) -> int:
    done = [study for study in studies(chosen.folder) if study.has_runs]
    for study in done:
        pages.write_study(study)
    pages.write_readme(chosen.folder, done)
    print(f"{len(done)} studies in {chosen.folder / pages.README}")
    return 0


def _check(chosen: argparse.Namespace) -> int:
    different = 0
    for study in _named(chosen.folder, chosen.names):
        trained, told = rerun.check(study, chosen.share, chosen.seed)
        verdict = "not equal" if told else "bit-identical"
        print("\n".join([*told, f"{study.name}: {trained} runs retrained, {verdict}"]))
        different += bool(told)
    return int(different > 0)


def _named(folder: Path, names: Sequence[str]) -> list[KeptStudy]:
    every = {study.name: study for study in studies(folder)}
    for name in names:
        if name not in every:
            raise RequestError(f"{name}: no study has this name; {nearest(name, every)}")
    return [every[name] for name in names or every]


def parser() -> argparse.ArgumentParser:
    """The command line; ``does`` of the result is the function to call."""
    found = argparse.ArgumentParser(prog="python -m rarelab.ledger", description=__doc__)
    found.add_argument(
        "--folder",
        type=Path,
        default=(config_root() / "conf" / "experiments").resolve(),
        help="holds the studies, NAME.yaml; must be named experiments if outside the checkout",
    )
    actions = found.add_subparsers(required=True)
    run = actions.add_parser("run", help="run what is missing, write the CSVs and the report")
    run.add_argument("names", nargs="*", metavar="STUDY")
    run.add_argument("--jobs", type=int, default=2, help="jobs at once")
    run.add_argument(
        "--launcher",
        metavar="NAME",
        help="train with hydra/launcher=NAME (ray, submitit_slurm) instead of on this machine",
    )
    run.add_argument(
        "--retime",
        action="store_true",
        help="if the runs are identical, still update their committed time, commit and date",
    )
    run.set_defaults(does=_run)
    report = actions.add_parser("report", help="tables, figures and ledger from the CSVs only")
    report.set_defaults(does=_report)
    check = actions.add_parser("check", help="retrain a random share and compare bit by bit")
    check.add_argument("names", nargs="*", metavar="STUDY")
    check.add_argument("--share", type=float, default=0.1)
    check.add_argument("--seed", type=int, default=0)
    check.set_defaults(does=_check)
    return found


if __name__ == "__main__":
    sys.exit(main())
