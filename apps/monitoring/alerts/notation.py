"""Series as promtool's tests write them: `name{label="value"}` and `0+10x60 _ 5x3`."""

import re

_LABEL = re.compile(r'(\w+)="([^"]*)"')
_PART = re.compile(r"(?P<first>-?[\d.]+)(?:(?P<by>[+-][\d.]+))?(?:x(?P<times>\d+))?|_(?:x(?P<gaps>\d+))?")


def selector_of(text: str) -> tuple[str, dict[str, str]]:
    """The name and the labels of a series."""
    name, _, rest = text.partition("{")
    return name.strip(), dict(_LABEL.findall(rest))


def samples_of(text: str) -> list[float | None]:
    """The samples, None where there is none. Raises ValueError for what is not in the notation."""
    found: list[float | None] = []
    for part in text.split():
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not in promtool's notation")
        if match["first"] is None:
            found += [None] * (int(match["gaps"] or 0) + (0 if match["gaps"] else 1))
            continue
        first, by = float(match["first"]), float(match["by"] or 0)
        found += [first + by * place for place in range(int(match["times"] or 0) + 1)]
    return found
