"""The thread of a server process that looks at the rules every fifteen seconds, and what it last saw.

With a Prometheus (`PROMETHEUS_URL`) that is where the rules are carried out, and this process tells nobody; it still
evaluates them and notes what fires, so that `/monitoring/alerts` and `manage.py status` have an answer of their own.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence

from django.conf import settings
from django.db import Error, connection

from apps.monitoring import collectors
from apps.monitoring.alerts import notices
from apps.monitoring.alerts.catalogue import JOB
from apps.monitoring.alerts.history import History, Labels
from apps.monitoring.alerts.rules import Active, Evaluator, ranges
from apps.monitoring.exposition import floats_of
from apps.monitoring.sums import Durations

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 15.0

Sample = tuple[str, Labels, float]


class Watch:
    """The evaluator of one process, and what it saw last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._evaluator: Evaluator | None = None  # made at the first look: the rules are parsed then
        self._seen: list[Active] = []
        self.looked_at = 0.0

    def look(self, at: float | None = None) -> Sequence[Active]:
        """Scrape this process and carry the rules out, unless that was just done."""
        moment = time.time() if at is None else at
        with self._lock:
            if at is not None or moment - self.looked_at >= INTERVAL_SECONDS - 1:
                if self._evaluator is None:
                    made = Evaluator(History(ranges()))
                    made.resume(notices.firing(), moment)
                    self._evaluator = made
                history = self._evaluator.history
                history.add(moment, samples(history))
                history.thin(moment)
                self._seen = self._evaluator.look(moment)
                self.looked_at = moment
            return list(self._seen)


def samples(history: History) -> Iterator[Sample]:
    """What a scrape of this process would find of the metrics that rules ask for."""
    yield "up", {"job": JOB, "instance": "self"}, 1.0
    for filled in collectors.ours():
        declared = filled.declared
        if not any(history.wants(name) for name in declared.samples):
            continue
        for values, value in filled.samples.items():
            labels = dict(zip(declared.labels, values, strict=True))
            if not isinstance(value, Durations):
                yield declared.name, labels, float(value)
                continue
            if history.wants(f"{declared.name}_bucket"):
                for limit, number in floats_of(declared, value):
                    yield f"{declared.name}_bucket", {**labels, "le": limit}, number
            yield f"{declared.name}_count", labels, float(value.count)
            yield f"{declared.name}_sum", labels, value.microseconds / 1_000_000


watch = Watch()
_started = threading.Event()


def start() -> None:
    """Have a thread of this process look, once; called when the server starts."""
    if not _started.is_set():
        _started.set()
        threading.Thread(target=_run, name="alerts", daemon=True).start()


def once() -> None:
    """Look, note what fires, and tell it unless a Prometheus does."""
    notices.keep(watch.look(), tell=not settings.ENV.PROMETHEUS_URL)


def _run() -> None:
    complained = False
    while True:
        began = time.monotonic()
        try:
            once()
            complained = False
        except Error as error:
            if not complained:
                logger.warning("alerts: the database does not answer: %s", type(error).__name__)
            complained = True
        except Exception:
            logger.exception("alerts: the rules could not be carried out")
        finally:
            connection.close()
        time.sleep(max(1.0, INTERVAL_SECONDS - (time.monotonic() - began)))
