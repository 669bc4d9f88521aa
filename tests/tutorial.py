"""Run docs/tutorial.md as a reader would, and compare or refresh the outputs it shows.

``python tests/tutorial.py`` rewrites the outputs, starting from an empty folder. Whether the prose
still fits them is for a person to check.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

PAGE = Path(__file__).parent.parent / "docs" / "tutorial.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", flags=re.DOTALL)
SIGNATURE = re.compile(r"\b[0-9a-f]{8}\b")
NUMBER = re.compile(r"[-+]?\d[\d,.]*")


def replayed(page: str, run: Callable[[str], str], folder: Path) -> str:
    """The page with the numbers in each output replaced by those its command prints in ``folder``.

    Raises AssertionError naming a shown line that is missing from the output.
    """
    came = ""

    def block(found: re.Match[str]) -> str:
        nonlocal came
        language, text = found.groups()
        if language == "python":
            (folder / "make_cards.py").write_text(text, encoding="utf-8")
        elif language == "console":
            came = run(text)
        elif language == "text":
            text = "".join(f"{line_of(came, line)}\n" for line in text.splitlines())
        return f"```{language}\n{text}```"

    return BLOCK.sub(block, page)


def line_of(output: str, shown: str) -> str:
    """The line of the output that matches ``shown`` except for its numbers."""
    if shown == "…":
        return shown
    alike = [line for line in output.splitlines() if masked(line) == masked(shown)]
    assert alike, f"{shown!r} did not come out:\n{output}"
    return alike[0].rstrip()


def masked(line: str) -> str:
    return NUMBER.sub("#", SIGNATURE.sub("#", " ".join(line.split())))


def run_in(folder: Path, block: str) -> str:
    """The output of the commands, run by a shell in ``folder``."""
    bin_folder = str(Path(sys.executable).parent)
    search = os.pathsep.join([bin_folder, os.environ.get("PATH", "")])
    known = {**os.environ, "PATH": search, "RARELAB_HOME": str(folder / "outputs")}
    done = subprocess.run(
        ["sh", "-ec", block], cwd=folder, env=known, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{block}{done.stdout}{done.stderr}"
    return done.stdout.replace(f"{folder}{os.sep}", "")


def environment() -> str:
    """What the last digits depend on, as the page puts it."""
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        page = replayed(page, partial(run_in, folder), folder)
    page = re.sub(r"\(torch [^)]*\)", f"({environment()})", page)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
