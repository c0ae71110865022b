"""Evaluates the part of PromQL that the catalogue's rules use, over a history of samples, as Prometheus does.

Parsed by promql-parser (Prometheus's grammar). What is not supported is refused when a rule is read, not when it fires.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from apps.monitoring.alerts.history import History, Series

Key = tuple[tuple[str, str], ...]
Vector = dict[Key, float]
Value = Vector | float
"""A scalar, or values by their labels (sorted pairs, without the metric's name)."""


class Unsupported(ValueError):
    """An expression uses what is not evaluated here."""


@dataclass(frozen=True, slots=True)
class _Selector:
    name: str
    matches: tuple[tuple[str, Callable[[str], bool]], ...]

    def series(self, history: History) -> Iterator[Series]:
        for series in history.of(self.name):
            if all(fits(series.labels.get(label, "")) for label, fits in self.matches):
                yield series


class Query:
    """A parsed expression. `ranges` tells by metric name how far back it looks, in seconds; `shortest` is the shortest
    of its windows, 0 without any.
    """

    def __init__(self, text: str) -> None:
        import promql_parser

        try:
            self._tree = promql_parser.parse(text)
        except ValueError as error:
            raise Unsupported(f"{text}: {error}") from None
        self.ranges: dict[str, float] = {}
        self.shortest = 0.0
        self._run = self._compiled(self._tree)

    def at(self, moment: float, history: History) -> Value:
        """Its value at a moment (Unix seconds)."""
        return self._run(moment, history)

    # -- from the tree to functions ------------------------------------------------------------------------------------

    def _compiled(self, node: Any) -> Callable[[float, History], Value]:
        match type(node).__name__:
            case "NumberLiteral":
                number = float(node.val)
                return lambda _at, _history: number
            case "ParenExpr":
                return self._compiled(node.expr)
            case "VectorSelector":
                return self._instant(node)
            case "Call":
                return self._call(node)
            case "AggregateExpr":
                return self._aggregate(node)
            case "BinaryExpr":
                return self._binary(node)
        raise Unsupported(f"{type(node).__name__} is not evaluated here")

    def _selector(self, node: Any, seconds: float) -> _Selector:
        if node.offset is not None or node.at is not None or node.matchers.or_matchers or not node.name:
            raise Unsupported("offset, @, `or` matchers and nameless selectors are not evaluated here")
        self.ranges[node.name] = max(seconds, self.ranges.get(node.name, 0.0))
        return _Selector(node.name, tuple((m.name, _matcher(m)) for m in node.matchers.matchers))

    def _instant(self, node: Any) -> Callable[[float, History], Value]:
        selector = self._selector(node, 0.0)

        def run(at: float, history: History) -> Value:
            found = ((_key(series.labels), series.last(at)) for series in selector.series(history))
            return {key: value for key, value in found if value is not None}

        return run

    def _call(self, node: Any) -> Callable[[float, History], Value]:
        name, arguments = node.func.name, list(node.args)
        if name == "time":
            return lambda at, _history: at
        if name == "vector":
            inner = self._compiled(arguments[0])
            return lambda at, history: {(): _scalar(inner(at, history))}
        if name == "absent":
            return self._absent(arguments[0])
        if name in ("increase", "rate") and type(arguments[0]).__name__ == "MatrixSelector":
            seconds = arguments[0].range.total_seconds()
            self.shortest = min(seconds, self.shortest or seconds)
            selector = self._selector(arguments[0].vector_selector, seconds)
            share = 1.0 if name == "increase" else 1.0 / seconds

            def run(at: float, history: History) -> Value:
                found = ((_key(s.labels), increase(s, at - seconds, at)) for s in selector.series(history))
                return {key: value * share for key, value in found if value is not None}

            return run
        raise Unsupported(f"the function {name} is not evaluated here")

    def _absent(self, node: Any) -> Callable[[float, History], Value]:
        inner = self._compiled(node)
        known = {m.name: m.value for m in node.matchers.matchers if str(m.op) in ("=", "MatchOp.Equal")}
        return lambda at, history: {} if inner(at, history) else {_key(known): 1.0}

    def _aggregate(self, node: Any) -> Callable[[float, History], Value]:
        how = _AGGREGATIONS.get(str(node.op))
        if how is None or node.param is not None:
            raise Unsupported(f"the aggregation {node.op} is not evaluated here")
        by: frozenset[str] = frozenset()
        if node.modifier is not None:
            if str(node.modifier.type) != "AggModifierType.By":
                raise Unsupported("`without` is not evaluated here")
            by = frozenset(node.modifier.labels)
        inner = self._compiled(node.expr)

        def run(at: float, history: History) -> Value:
            groups: dict[Key, list[float]] = {}
            for key, value in _vector(inner(at, history)).items():
                groups.setdefault(tuple(pair for pair in key if pair[0] in by), []).append(value)
            return {key: float(how(values)) for key, values in groups.items()}

        return run

    def _binary(self, node: Any) -> Callable[[float, History], Value]:
        left, right, sign = self._compiled(node.lhs), self._compiled(node.rhs), str(node.op)
        modifier = node.modifier
        if modifier is not None and (modifier.matching is not None or modifier.group_labels or modifier.return_bool):
            raise Unsupported("`on`, `ignoring`, `group_left` and `bool` are not evaluated here")
        if sign in ("and", "or", "unless"):
            return lambda at, history: _joined(sign, _vector(left(at, history)), _vector(right(at, history)))
        act = _OPERATORS.get(sign)
        if act is None:
            raise Unsupported(f"the operator {sign} is not evaluated here")
        filters = sign in _COMPARISONS
        return lambda at, history: _applied(act, filters, left(at, history), right(at, history))


def increase(series: Series, begin: float, end: float) -> float | None:
    """By how much a counter rose, resets taken out, extrapolated to the whole range (Prometheus's extrapolatedRate)."""
    times, values = series.between(begin, end)
    if len(times) < 2:
        return None
    rise = values[-1] - values[0]
    rise += sum(before for before, after in pairwise(values) if after < before)
    sampled = times[-1] - times[0]
    average = sampled / (len(times) - 1)
    to_start, to_end = times[0] - begin, end - times[-1]
    if rise > 0 and values[0] >= 0:
        to_start = min(to_start, sampled * (values[0] / rise))  # a counter cannot have been below zero
    covered = sampled
    for gap in (to_start, to_end):
        covered += gap if gap < average * 1.1 else average / 2
    return rise * covered / sampled


_AGGREGATIONS: Mapping[str, Callable[[list[float]], float]] = {"sum": sum, "max": max, "min": min, "count": len}
_OPERATORS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else (float("nan") if a == 0 or a != a else float("inf") * (1 if a > 0 else -1)),  # noqa: PLR0124
    ">": lambda a, b: float(a > b),
    "<": lambda a, b: float(a < b),
    ">=": lambda a, b: float(a >= b),
    "<=": lambda a, b: float(a <= b),
    "==": lambda a, b: float(a == b),
    "!=": lambda a, b: float(a != b),
}
_COMPARISONS = frozenset({">", "<", ">=", "<=", "==", "!="})


def _applied(act: Callable[[float, float], float], filters: bool, left: Value, right: Value) -> Value:
    if not isinstance(left, dict) and not isinstance(right, dict):
        return act(left, right)
    keys = left if isinstance(left, dict) else _vector(right)
    found: Vector = {}
    for key in keys:
        if (isinstance(left, dict) and key not in left) or (isinstance(right, dict) and key not in right):
            continue
        mine = left[key] if isinstance(left, dict) else left
        other = right[key] if isinstance(right, dict) else right
        result = act(mine, other)
        if not filters:
            found[key] = result
        elif result:
            found[key] = mine if isinstance(left, dict) else other
    return found


def _joined(sign: str, left: Vector, right: Vector) -> Vector:
    if sign == "or":
        return {**{key: value for key, value in right.items() if key not in left}, **left}
    return {key: value for key, value in left.items() if (key in right) is (sign == "and")}


def _matcher(matcher: Any) -> Callable[[str], bool]:
    value, sign = matcher.value, str(matcher.op).removeprefix("MatchOp.")
    if sign in ("Equal", "="):
        return lambda text: text == value
    if sign in ("NotEqual", "!="):
        return lambda text: text != value
    pattern = re.compile(value)
    if sign in ("Re", "=~"):
        return lambda text: pattern.fullmatch(text) is not None
    return lambda text: pattern.fullmatch(text) is None


def _key(labels: Mapping[str, str]) -> Key:
    return tuple(sorted(labels.items()))


def _vector(value: Value) -> Vector:
    if not isinstance(value, dict):
        raise Unsupported("a scalar stands where a vector must")
    return value


def _scalar(value: Value) -> float:
    if isinstance(value, dict):
        raise Unsupported("a vector stands where a scalar must")
    return value
