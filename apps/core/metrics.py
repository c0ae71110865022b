"""What an app knows of its own process and offers as a metric; whoever watches asks for it by the metric's name."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping

Samples = Mapping[tuple[str, ...], float]
"""Values by the values of the metric's labels, in their order; without labels the key is empty."""

_offers: dict[str, Callable[[], Samples]] = {}


def offer(name: str, read: Callable[[], Samples]) -> None:
    """Have `read` answer for the metric `name` of this process. It must be quick and ask nothing of the database."""
    _offers[name] = read


def offered(name: str) -> Samples:
    """What is offered under this name; nothing where nobody does."""
    read = _offers.get(name)
    return read() if read is not None else {}


class Tally:
    """Counts since this process began, by labels; from any thread. `known` are there at 0 from the start."""

    def __init__(self, *known: tuple[str, ...]) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, ...]] = Counter(dict.fromkeys(known, 0))

    def add(self, *labels: str, number: int = 1) -> None:
        """Count `number` more."""
        with self._lock:
            self._counts[labels] += number

    def read(self) -> Samples:
        """What was counted."""
        with self._lock:
            return {labels: float(number) for labels, number in self._counts.items()}
