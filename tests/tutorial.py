"""docs/tutorial.md as its reader follows it: the commands run, the outputs are what came out.

``python tests/tutorial.py`` writes the outputs anew, from an empty folder. What the prose says of
them is for a person to read again.
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
    """The page with the numbers of each output as its command gives them in ``folder``.

    AssertionError names a shown line that did not come out.
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
    """The line of the output that says what ``shown`` says, with its own numbers."""
    if shown == "…":
        return shown
    alike = [line for line in output.splitlines() if masked(line) == masked(shown)]
    assert alike, f"{shown!r} did not come out:\n{output}"
    return alike[0].rstrip()


def masked(line: str) -> str:
    return NUMBER.sub("#", SIGNATURE.sub("#", " ".join(line.split())))


def run_in(folder: Path, block: str) -> str:
    """What the commands print, typed into a shell that stands in ``folder``."""
    bin_folder = str(Path(sys.executable).parent)
    search = os.pathsep.join([bin_folder, os.environ.get("PATH", "")])
    known = {**os.environ, "PATH": search, "RARELAB_HOME": str(folder / "outputs")}
    done = subprocess.run(
        ["sh", "-ec", block], cwd=folder, env=known, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{block}{done.stdout}{done.stderr}"
    return done.stdout.replace(f"{folder}{os.sep}", "")


def environment() -> str:
    """What the last digits depend on, in the page's words."""
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
