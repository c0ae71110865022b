"""Terminal colours as classes: only classes of a closed list, all of the text, nothing that moves or hides."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.web.ansi import Piece, pieces


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", [("plain", "")]),
        ("\x1b[31mred\x1b[0m not", [("red", "a-red"), (" not", "")]),
        ("\x1b[1;4;92mall\x1b[22;24mless\x1b[39mnone", [
            ("all", "a-bold a-underline a-green"), ("less", "a-green"), ("none", "")]),
        ("\x1b[38;5;196mmany\x1b[38;2;1;2;3mmore\x1b[33myellow", [("many", ""), ("more", ""), ("yellow", "a-yellow")]),
        ("\x1b[2J\x1b[Hx\x1b]0;title\x07y\x1b]8;;https://x\x1b\\z", [("x", ""), ("y", ""), ("z", "")]),
        ("50 %\r60 %\r\n", [("50 %\n60 %\n", "")]),
        ("a\x00b\u202ec\x1b", [("abc", "")]),
    ],
)  # fmt: skip
def test_looks(text, expected):
    assert list(pieces(text)) == [Piece(*each) for each in expected]


@given(st.text(alphabet=st.sampled_from("\x1b[]0123456789;:mKHx<>&\"'\\\x07 \n"), max_size=60))
def test_whatever_is_written_classes_are_words_and_no_control_is_left(text):
    for piece in pieces(text):
        assert re.fullmatch(r"(a-[a-z]+( a-[a-z]+)*)?", piece.classes)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", piece.text)
