"""What is written is read as the same data, whatever it holds."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.workflows.definition.dump import dump
from apps.workflows.definition.loader import load

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
TRICKY = st.from_regex(r"[-+]?(0o|0x|0b)?[0-9_.:eE+-]{1,8}|[~=<|>&*!%@`#?-]|yes|No|on|NULL|\.inf|\.NaN", fullmatch=True)
LINES = st.lists(st.sampled_from(["", " ", "a", "  b", "c ", "\t", "# d", "---", "...", "é", "😀"])).map("\n".join)
WORDS = TEXT | TRICKY | LINES
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
)
DATA = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4))


def exactly(data):
    """Text that tells 1 from 1.0 and from true."""
    return json.dumps(data, ensure_ascii=False)


@settings(max_examples=300, deadline=None)
@given(DATA)
def test_data_comes_back_as_it_was(data):
    assert exactly(load(dump(data), "yaml")) == exactly(data)


@pytest.mark.parametrize(
    "text",
    [
        "0o17", "1e5", "1_000", "0x1F", "12:30", "2024-01-01", "on", "~", "", " x", "x ", "a: b", "- a", "#", "\ufeff",
        "\x85", "a\r\nb", "a\n", "a\n\n", "\na", "  a\nb", "\u2028", "\x7f", "${inputs.x}", "{a}", "[a", "%a", "'", '"',
        "<<", "=",
    ],
)  # fmt: skip
def test_text_stays_text(text):
    assert load(dump({text: [text]}), "yaml") == {text: [text]}


def test_a_script_is_a_block_that_can_be_read():
    text = dump({"name": "x", "command": ["python", "-c", "import sys\nprint(sys.argv)\n"]})
    assert text == "name: x\ncommand:\n- python\n- -c\n- |\n  import sys\n  print(sys.argv)\n"
