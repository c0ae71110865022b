"""The drawing of a graph: left to right, nothing over anything else."""

from itertools import pairwise

import pytest

from apps.web.graph import BOX_HEIGHT, draw


def test_a_chain_goes_to_the_right():
    drawing = draw({"a": [], "b": ["a"], "c": ["b"]}, {"a": "completed"})
    a, b, c = drawing.nodes
    assert a.x < b.x < c.x
    assert a.y == b.y == c.y
    assert (a.status, b.status) == ("completed", "pending")
    assert len(drawing.edges) == 2


def test_neighbours_in_a_column_do_not_overlap():
    drawing = draw({"a": [], **{f"b{n}": ["a"] for n in range(9)}, "c": [f"b{n}" for n in range(9)]}, {})
    column = sorted(node.y for node in drawing.nodes if node.id.startswith("b"))
    assert all(below - above >= BOX_HEIGHT for above, below in pairwise(column))
    assert all(node.y >= 0 and node.y + BOX_HEIGHT <= drawing.height for node in drawing.nodes)
    assert all(node.x + node.width <= drawing.width for node in drawing.nodes)


def test_an_edge_over_a_column_passes_beside_its_boxes():
    drawing = draw({"a": [], "b": ["a"], "c": ["a", "b"]}, {})
    long = next(edge for edge in drawing.edges if "H" in edge)
    b = next(node for node in drawing.nodes if node.id == "b")
    passed = float(long.split("H")[0].split()[-1])
    assert not b.y <= passed <= b.y + BOX_HEIGHT


def test_long_names_are_shortened_and_kept():
    (node,) = draw({"x" * 60: []}, {}).nodes
    assert node.id == "x" * 60
    assert node.label.endswith("…")


def test_a_cycle_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        draw({"a": ["b"], "b": ["a"]}, {})
