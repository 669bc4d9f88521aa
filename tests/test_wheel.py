"""A wheel works without the checkout, because it includes the configuration."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_wheel_trains_outside_the_checkout(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, ROOT], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    environment = tmp_path / "a clean venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    # Borrow the installed libraries; a folder in a .pth does not bring editable installs with it.
    (site,) = (environment / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run([python, "-m", "pip", "install", "--no-deps", wheel], check=True)
    folder = tmp_path / "somewhere else"
    folder.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RARELAB")}
    small = ["dataset.n_samples=2000", "dataset.pos_rate=0.05", "trainer.max_epochs=6"]

    def train(*overrides: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [environment / "bin" / "rarelab", "train", *overrides],
            cwd=folder,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
        )

    done = train("experiments=toy_demo", *small)
    assert done.returncode == 0, done.stderr
    assert str(folder / "outputs") in done.stdout
    assert (folder / "outputs" / "mlflow.db").is_file()
    plan = train("experiments=losses", "sweep.dry_run=true")
    assert plan.returncode == 0 and "72 jobs" in plan.stdout, plan.stderr
    wrong = train("experiments=toy_dmo")
    assert wrong.returncode == 2
    assert "toy_demo" in wrong.stderr
    where = subprocess.run(
        [python, "-c", "import rarelab; print(rarelab.__file__)"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(environment) in where.stdout
