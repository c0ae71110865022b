"""A40: what is installed is no older than the versions whose holes are known, and the pins say so too."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

FLOORS = {"django": (5, 2, 14), "daphne": (4, 2, 2), "pyjwt": (2, 12)}
ROOT = Path(__file__).resolve().parents[2]


def numbers(text):
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


@pytest.mark.parametrize("name", FLOORS)
def test_a40_the_installed_version_is_not_below_its_floor(name):
    assert numbers(version(name)) >= FLOORS[name]


def test_a40_every_requirement_is_pinned_and_not_below_its_floor():
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text().splitlines():
            text = line.partition("#")[0].strip()
            if not text or text.startswith("-r"):
                continue
            pinned = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?==([\w.!]+)", text)
            assert pinned, f"{file}: {text} is not pinned"
            if floor := FLOORS.get(pinned[1].lower()):
                assert numbers(pinned[2]) >= floor, text


def test_a40_what_comes_along_with_others_is_pinned_where_it_has_a_floor():
    """A resolver may take any version of what nobody names: whoever has a floor is named."""
    named = {
        line.partition("==")[0].partition("[")[0].lower() for line in (ROOT / "requirements.txt").read_text().split()
    }
    assert set(FLOORS) <= named
