"""docs/benchmarks.md: each measured section stands between two comments and is replaced; the rest is prose."""

from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def write(sections: Mapping[str, str]) -> None:
    """Replace these sections. Raises ValueError where the page has none of that name."""
    text = PAGE.read_text()
    for name, section in sections.items():
        opening, closing = f"<!-- measured: {name} -->\n", f"<!-- end: {name} -->"
        before, opened, rest = text.partition(opening)
        _, closed, after = rest.partition(closing)
        if not opened or not closed:
            raise ValueError(f"{PAGE.name} has no section {name!r}")
        text = f"{before}{opening}{section}\n{closing}{after}"
    PAGE.write_text(text)
