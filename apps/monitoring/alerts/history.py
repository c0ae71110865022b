"""Samples of this process's own scrapes, kept as long as the rules look back: what an evaluator reads."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

Labels = Mapping[str, str]
LOOKBACK_SECONDS = 300.0
"""A series whose last sample is older is gone: Prometheus's own default."""
FINE_SECONDS = 3_900.0
COARSE_SECONDS = 300.0
"""Samples older than an hour (and the lookback) are thinned to one in five minutes."""


@dataclass(slots=True)
class Series:
    """One series: its labels, and its samples in the order of their times (Unix seconds)."""

    labels: dict[str, str]
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def between(self, after: float, until: float) -> tuple[list[float], list[float]]:
        """The samples of `after <= time <= until`."""
        first, last = bisect_left(self.times, after), bisect_right(self.times, until)
        return self.times[first:last], self.values[first:last]

    def last(self, at: float) -> float | None:
        """The newest sample within the lookback."""
        place = bisect_right(self.times, at) - 1
        if place < 0 or at - self.times[place] >= LOOKBACK_SECONDS:
            return None
        return self.values[place]


class History:
    """Series by metric name. `keep` says for how many seconds a metric's samples are kept; others are not."""

    def __init__(self, keep: Mapping[str, float]) -> None:
        self._keep = keep
        self._series: dict[str, dict[tuple[tuple[str, str], ...], Series]] = {}

    def wants(self, name: str) -> bool:
        """Whether any rule asks for this metric."""
        return name in self._keep

    def add(self, at: float, samples: Iterable[tuple[str, Labels, float]]) -> None:
        """Take in what was scraped at one moment."""
        for name, labels, value in samples:
            if name in self._keep:
                of_name = self._series.setdefault(name, {})
                key = tuple(sorted(labels.items()))
                series = of_name.get(key)
                if series is None:
                    series = of_name[key] = Series(dict(labels))
                series.times.append(at)
                series.values.append(value)

    def thin(self, now: float) -> None:
        """Forget what no rule looks back to."""
        for name, of_name in self._series.items():
            oldest = now - self._keep[name] - LOOKBACK_SECONDS
            for key in [key for key, series in of_name.items() if series.times[-1] < oldest]:
                del of_name[key]
            for series in of_name.values():
                first, fine = bisect_left(series.times, oldest), bisect_left(series.times, now - FINE_SECONDS)
                kept: list[int] = []
                for place in range(first, fine):
                    if not kept or series.times[place] - series.times[kept[-1]] >= COARSE_SECONDS:
                        kept.append(place)
                places = [*kept, *range(max(first, fine), len(series.times))]
                if len(places) < len(series.times):
                    series.times = [series.times[place] for place in places]
                    series.values = [series.values[place] for place in places]

    def of(self, name: str) -> Iterator[Series]:
        """Every series of a metric."""
        yield from self._series.get(name, {}).values()
