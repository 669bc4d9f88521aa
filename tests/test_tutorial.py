"""docs/tutorial.md followed to the letter: four commands from a CSV file to a verdict."""

import re
from functools import partial
from pathlib import Path

import pytest

from tutorial import PAGE, SIGNATURE, environment, line_of, replayed, run_in

SCORE = re.compile(r"\b0\.\d{4}\b")


@pytest.mark.slow
def test_the_tutorials_outputs_are_reproduced(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    came = replayed(page, partial(run_in, tmp_path), tmp_path)
    if f"({environment()})" in page:
        assert SIGNATURE.sub("", came) == SIGNATURE.sub("", page)
    # Another processor or torch sums in another order, and training amplifies that. So two machines
    # may differ by as much as two seeds of one arm.
    shown = [float(score) for score in SCORE.findall(page)]
    assert shown == pytest.approx([float(score) for score in SCORE.findall(came)], abs=0.05)


def test_the_tutorial_has_four_commands_besides_making_its_file() -> None:
    commands = re.findall(r"^(?:rarelab|python) \w+", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    assert commands == [
        *("python make_cards", "rarelab train", "rarelab train"),
        *("rarelab compare", "rarelab predict"),
    ]


def test_a_line_shown_on_the_page_must_be_in_the_output() -> None:
    output = "loss=bce   8  0.31 worse\nrun a-s0-1234abcd-0"
    assert line_of(output, "loss=bce 8 0.29  worse") == "loss=bce   8  0.31 worse"
    assert line_of(output, "run a-s0-deadbeef-0") == "run a-s0-1234abcd-0"
    with pytest.raises(AssertionError, match="did not come out"):
        line_of(output, "loss=bce 8 0.31 better")
