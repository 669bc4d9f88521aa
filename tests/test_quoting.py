"""Every override that a message proposes can be pasted into a shell."""

import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from rarelab.quoting import elements, names, override

odd = st.sampled_from(["\\", "'", '"', "$", "${", "}", "[", "]", ",", "=", "#", " ", "ä", "1", "e"])
name = st.lists(odd | st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
name = name.map("".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(name, min_size=1, max_size=3))
def test_a_proposed_override_gives_the_names_back(columns: list[str]) -> None:
    (word,) = shlex.split(override("dataset.drop", columns))
    assert list(_read(word)) == columns
    assert names(word.partition("=")[2]) == tuple(columns)
    (word,) = shlex.split(override("dataset.target", columns[0]))
    assert _read(word) == columns[0]


def _read(word: str) -> object:
    value = OverridesParser.create().parse_override(word).value()
    return OmegaConf.create({"value": value}).value


def test_plain_names_stay_as_they_are() -> None:
    assert override("dataset.target", "is_fraud") == "dataset.target=is_fraud"
    assert override("dataset.drop", ["a", "b"]) == "dataset.drop='[a,b]'"


def test_lists_are_split_outside_brackets_and_quotes() -> None:
    assert elements("a, [b, c], 'd, e', x='f,g', it's") == [
        "a",
        "[b, c]",
        "'d, e'",
        "x='f,g'",
        "it's",
    ]
    assert names("a,b") == names("[a, b]") == names("['a',\"b\"]") == ("a", "b")
    assert names("'[\"x,y\"]'") == ("x,y",)  # the quotes that a shell takes away
