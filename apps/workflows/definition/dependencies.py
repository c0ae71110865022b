"""Who waits for whom: cycles and ancestors of a graph given as lists of indices. Iterative, linear in its edges."""

from collections import deque
from collections.abc import Sequence

Edges = Sequence[Sequence[int]]


def components(dependencies: Edges) -> list[list[int]]:
    """The strongly connected components, each after those it depends on (R. Tarjan, "Depth-first search", 1972)."""
    count = len(dependencies)
    index = [-1] * count
    low = [0] * count
    on_stack = [False] * count
    stack: list[int] = []
    found: list[list[int]] = []
    counter = 0
    for root in range(count):
        if index[root] >= 0:
            continue
        work = [(root, 0)]
        while work:
            vertex, edge = work.pop()
            if edge == 0:
                index[vertex] = low[vertex] = counter
                counter += 1
                stack.append(vertex)
                on_stack[vertex] = True
            elif on_stack[done := dependencies[vertex][edge - 1]]:
                low[vertex] = min(low[vertex], low[done])
            for number in range(edge, len(dependencies[vertex])):
                target = dependencies[vertex][number]
                if index[target] < 0:
                    work.append((vertex, number + 1))
                    work.append((target, 0))
                    break
                if on_stack[target]:
                    low[vertex] = min(low[vertex], index[target])
            else:
                if low[vertex] == index[vertex]:
                    found.append(_popped(stack, on_stack, vertex))
    return found


def _popped(stack: list[int], on_stack: list[bool], vertex: int) -> list[int]:
    component = []
    while True:
        member = stack.pop()
        on_stack[member] = False
        component.append(member)
        if member == vertex:
            return component


def is_cyclic(component: Sequence[int], dependencies: Edges) -> bool:
    """Whether the members of a component wait for themselves."""
    return len(component) > 1 or component[0] in dependencies[component[0]]


def cycle_through(component: Sequence[int], dependencies: Edges) -> list[int]:
    """A shortest cycle through the first member of a cyclic component: `[a, b, a]`, each waiting for the next."""
    start, members = min(component), set(component)
    came_from: dict[int, int] = {}
    queue = deque([start])
    while queue:
        vertex = queue.popleft()
        for target in dependencies[vertex]:
            if target == start:
                path = [start, vertex]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return path[::-1] if vertex != start else [start, start]
            if target in members and target not in came_from:
                came_from[target] = vertex
                queue.append(target)
    raise AssertionError("the component has no cycle")


def ancestors(dependencies: Edges, found: Sequence[Sequence[int]]) -> list[int]:
    """For each vertex the set of all it waits for, directly or not, as bits; `found` is `components(dependencies)`."""
    masks = [0] * len(dependencies)
    for component in found:
        mask = 0
        for member in component:
            for target in dependencies[member]:
                mask |= masks[target] | (1 << target)
        for member in component:
            masks[member] = mask
    return masks
