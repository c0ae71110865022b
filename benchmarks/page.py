"""docs/benchmarks.md: each measured section stands between two comments and is replaced; the rest is prose."""

import re
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def write(sections: Mapping[str, str]) -> None:
    """Replace these sections. Raises ValueError where the page has none of that name."""
    text = PAGE.read_text()
    for name, section in sections.items():
        found = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end: {name} -->)", re.DOTALL)
        if not found.search(text):
            raise ValueError(f"{PAGE.name} has no section {name!r}")
        text = found.sub(lambda match, new=section: f"{match[1]}{new}\n{match[2]}", text)
    PAGE.write_text(text)
