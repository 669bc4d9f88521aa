"""Records a job that failed before its run was opened, while loading data or building parts."""

from pathlib import Path

from omegaconf import OmegaConf

from rarelab.config import build
from rarelab.runs.claim import claim, label
from rarelab.runs.folder import command, redacted
from rarelab.sweep.job import Job, parameters
from rarelab.tracking import RunRecord, owner


def record_failure(job: Job, error: str, traceback: str) -> tuple[str, str]:
    """Record the job as a FAILED run, with the traceback as its log.

    Args:
        job: the job.
        error: the exception's type.
        traceback: the full text.

    Returns:
        The run's id and folder.
    """
    cfg = OmegaConf.create(job.config)
    home, experiment = Path(job.config["paths"]["home"]), job.config["tracking"]["experiment"]
    name = f"{label(cfg, job.choices)}-{job.signature[:8]}"
    directory, _ = claim(home / "runs" / experiment, name)
    OmegaConf.save(OmegaConf.create(redacted(job.config)), directory / "config.yaml")
    (directory / "train.log").write_text(traceback, encoding="utf-8")
    sink = build.instantiate(cfg, "tracking", {"experiment": experiment, "home": str(home)})
    tags = {
        "rarelab.signature": job.signature,
        "rarelab.code": job.code,
        "rarelab.data": job.data,
        "rarelab.sweep": job.sweep,
        **job.tags,
        "rarelab.command": command(),
    }
    run_id = sink.open(
        RunRecord(
            name=job.name or directory.name,
            params=parameters(job),
            tags=tags,
            directory=directory,
            parent=job.parent,
        )
    )
    sink.close("error", directory, error)
    owner.release(directory)
    return run_id, str(directory)
