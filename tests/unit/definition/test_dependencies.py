"""Cycles and ancestors, checked against the plain definition of both."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.workflows.definition.dependencies import ancestors, components, cycle_through, is_cyclic

EDGES = st.integers(1, 9).flatmap(
    lambda count: st.lists(st.lists(st.integers(0, count - 1), max_size=4, unique=True), min_size=count, max_size=count)
)


def reachable(edges, start):
    seen, pending = set(), list(edges[start])
    while pending:
        vertex = pending.pop()
        if vertex not in seen:
            seen.add(vertex)
            pending.extend(edges[vertex])
    return seen


@settings(max_examples=300, deadline=None)
@given(edges=EDGES)
def test_components_cycles_and_ancestors(edges):
    found = components(edges)
    reach = [reachable(edges, vertex) for vertex in range(len(edges))]
    assert sorted(vertex for component in found for vertex in component) == list(range(len(edges)))
    seen = set()
    for component in found:
        for vertex in component:
            mutual = {other for other in range(len(edges)) if other in reach[vertex] and vertex in reach[other]}
            assert mutual | {vertex} == set(component)
            assert reach[vertex] - set(component) <= seen
        assert is_cyclic(component, edges) == (component[0] in reach[component[0]])
        if is_cyclic(component, edges):
            cycle = cycle_through(component, edges)
            assert cycle[0] == cycle[-1] == min(component)
            assert all(after in edges[before] for before, after in pairwise(cycle))
            assert len(set(cycle)) == len(cycle) - 1
        seen |= set(component)
    for vertex, mask in enumerate(ancestors(edges, found)):
        assert {bit for bit in range(len(edges)) if mask >> bit & 1} == reach[vertex]


def test_ten_thousand_in_a_row_need_no_recursion():
    edges = [[number - 1] if number else [9999] for number in range(10_000)]
    (component,) = components(edges)
    assert len(cycle_through(component, edges)) == 10_001
