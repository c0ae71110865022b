"""A small graph as boxes and curves: columns from left to right, drawn by the server as SVG. Pure: no I/O.

After Sugiyama, Tagawa and Toda (1981), in short: a step's column is the longest way to it; an edge that passes over
columns has a place of its own in each of them; the rows follow the mean row of the neighbours, swept forth and back.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BOX_HEIGHT, PASS_HEIGHT = 34, 10  # of a box, and of the place that a passing edge takes
GAP_X, GAP_Y, MARGIN = 46, 14, 6
LETTER_WIDTH, PADDING = 7, 48
MOST_LETTERS = 22
SWEEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A step's box; `x`, `y` are its upper left corner in user units, `label` is its id, shortened to fit."""

    id: str
    label: str
    status: str
    x: int
    y: int
    width: int

    @property
    def middle(self) -> int:
        """The height at which edges arrive."""
        return self.y + BOX_HEIGHT // 2

    @property
    def dot_x(self) -> int:
        """Where its mark stands."""
        return self.x + 15

    @property
    def text_x(self) -> int:
        """Where its label begins."""
        return self.x + 27


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Boxes, and the `d` attributes of the curves between them."""

    nodes: Sequence[Node]
    edges: Sequence[str]
    width: int
    height: int
    box_height: int = BOX_HEIGHT


@dataclass(frozen=True, slots=True)
class _Pass:
    """The place of an edge in a column that it only passes."""

    start: str
    end: str
    column: int


_Place = str | _Pass


def draw(depends_on: Mapping[str, Sequence[str]], statuses: Mapping[str, str]) -> Drawing:
    """The drawing of an acyclic graph given as step → its dependencies. Raises `ValueError` for a cycle."""
    depth = _depths(depends_on)
    columns, routes = _columns(depends_on, depth)
    tallest = max(sum(map(_height, column)) + GAP_Y * (len(column) - 1) for column in columns)
    nodes: dict[str, Node] = {}
    points: dict[_Place, tuple[int, int, int]] = {}  # left, right, middle
    x = MARGIN
    for column in columns:
        longest = max((len(_label(step)) for step in column if isinstance(step, str)), default=0)
        width = PADDING + LETTER_WIDTH * longest
        y = MARGIN + (tallest - sum(map(_height, column)) - GAP_Y * (len(column) - 1)) // 2
        for place in column:
            points[place] = (x, x + width, y + _height(place) // 2)
            if isinstance(place, str):
                nodes[place] = Node(
                    id=place, label=_label(place), status=statuses.get(place, "pending"), x=x, y=y, width=width
                )
            y += _height(place) + GAP_Y
        x += width + GAP_X
    return Drawing(
        nodes=[nodes[step] for step in depends_on],
        edges=[_curve([points[place] for place in route]) for route in routes],
        width=x - GAP_X + MARGIN,
        height=tallest + 2 * MARGIN,
    )


def _label(step: str) -> str:
    return step if len(step) <= MOST_LETTERS else f"{step[: MOST_LETTERS - 1]}…"


def _height(place: _Place) -> int:
    return BOX_HEIGHT if isinstance(place, str) else PASS_HEIGHT


def _depths(depends_on: Mapping[str, Sequence[str]]) -> dict[str, int]:
    depth: dict[str, int] = {}
    left = dict(depends_on)
    while left:
        ready = [step for step, given in left.items() if all(before in depth for before in given)]
        if not ready:
            raise ValueError("the graph has a cycle")
        for step in ready:
            depth[step] = max((depth[before] + 1 for before in left.pop(step)), default=0)
    return depth


def _columns(
    depends_on: Mapping[str, Sequence[str]], depth: Mapping[str, int]
) -> tuple[list[list[_Place]], list[list[_Place]]]:
    """The places of each column from top to bottom, and the route of each edge through them."""
    columns: list[list[_Place]] = [[] for _ in range(max(depth.values()) + 1)]
    before: dict[_Place, list[_Place]] = {}
    after: dict[_Place, list[_Place]] = {}
    routes: list[list[_Place]] = []
    for step, given in depends_on.items():  # the order of the definition is the first guess
        columns[depth[step]].append(step)
        for start in given:
            passed = [_Pass(start, step, column) for column in range(depth[start] + 1, depth[step])]
            for place in passed:
                columns[place.column].append(place)
            route: list[_Place] = [start, *passed, step]
            routes.append(route)
            for one, next_one in itertools.pairwise(route):
                after.setdefault(one, []).append(next_one)
                before.setdefault(next_one, []).append(one)
    for _ in range(SWEEPS):
        _sweep(columns, before)
        _sweep(columns[::-1], after)
    _sweep(columns, before)
    return columns, routes


def _sweep(columns: Sequence[list[_Place]], neighbours: Mapping[_Place, Sequence[_Place]]) -> None:
    """Order each column by the mean row of its neighbours; rows count from the middle, a stable sort keeps ties."""
    rows: dict[_Place, float] = {}
    for column in columns:
        middle = (len(column) - 1) / 2
        wanted: dict[_Place, float] = {}
        for row, place in enumerate(column):
            near = [rows[one] for one in neighbours.get(place, ())]
            wanted[place] = sum(near) / len(near) if near else row - middle
        column.sort(key=wanted.__getitem__)
        rows.update({place: row - middle for row, place in enumerate(column)})


def _curve(points: Sequence[tuple[int, int, int]]) -> str:
    """From the right side of the first place to the left side of the last, straight through those between."""
    (_, x, y), *rest = points
    path = f"M{x} {y}"
    for number, (left, right, middle) in enumerate(rest, start=1):
        bend = (left - x) // 2
        path += f"C{x + bend} {y} {left - bend} {middle} {left} {middle}"
        if number < len(rest):
            path += f"H{right}"
        x, y = right, middle
    return path
