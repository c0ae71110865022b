"""The bugs that `make plant` plants can still be planted: the code that each replaces is there, once."""

import re
from pathlib import Path

import pytest

from scripts.bugs import OF_RIGHTS, OF_WORK

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("bug", [*OF_WORK, *OF_RIGHTS], ids=lambda bug: bug.name)
def test_a_bug_can_be_planted(bug):
    text = (ROOT / bug.path).read_text(encoding="utf-8")
    planted, count = re.subn(bug.find, bug.put, text, flags=re.MULTILINE)
    assert count == 1
    if bug.path.endswith(".py"):
        compile(planted, bug.path, "exec")
