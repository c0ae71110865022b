"""What this server process knows by itself: its versions, its host's CPU, memory and disk, its trace exporter."""

import os
import platform
import threading
from collections.abc import Mapping
from pathlib import Path

import django
import psutil
from django.conf import settings

from apps.monitoring.tracing import exporter_state

SAMPLE_SECONDS = 5.0
FIRST_SAMPLE_SECONDS = 0.1

Readings = Mapping[str, Mapping[tuple[str, ...], float]]


class _CPU:
    """Samples in a thread of its own: `psutil.cpu_percent` tells the time since it was last asked, whoever asked."""

    def __init__(self) -> None:
        self._percent: float | None = None
        self._first = threading.Event()
        self._starting = threading.Lock()
        self._pid = 0

    def percent(self) -> float | None:
        """The last sample; None while there is none."""
        with self._starting:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._first.clear()
                threading.Thread(target=self._sample, name="cpu-sampler", daemon=True).start()
        self._first.wait(FIRST_SAMPLE_SECONDS * 3)
        return self._percent

    def _sample(self) -> None:
        self._percent = psutil.cpu_percent(interval=FIRST_SAMPLE_SECONDS)
        self._first.set()
        while True:
            self._percent = psutil.cpu_percent(interval=SAMPLE_SECONDS)


_cpu = _CPU()


def readings() -> Readings:
    """Samples by family and labels; a family that cannot be read is left out."""
    memory = psutil.virtual_memory()
    mount = mount_of(settings.DATA_DIR)
    disk = psutil.disk_usage(mount)
    found: dict[str, Mapping[tuple[str, ...], float]] = {
        "dagger_build_info": {(version(), platform.python_version(), django.get_version()): 1.0},
        "dagger_memory_usage_bytes": {(): float(memory.total - memory.available)},
        "dagger_memory_limit_bytes": {(): float(memory.total)},
        "dagger_disk_usage_bytes": {(mount,): float(disk.used)},
        "dagger_disk_size_bytes": {(mount,): float(disk.total)},
        "dagger_trace_spans_dropped_total": {(): float(exporter_state.dropped)},
    }
    if (percent := _cpu.percent()) is not None:
        found["dagger_cpu_usage_percent"] = {(): percent}
    if exporter_state.up is not None:
        found["dagger_trace_exporter_up"] = {(): float(exporter_state.up)}
    return found


def version() -> str:
    """The version of this platform, as its OpenAPI document says it."""
    return str(settings.SPECTACULAR_SETTINGS["VERSION"])


def mount_of(path: Path) -> str:
    """The mount point of the file system that holds `path`."""
    place = path.resolve()
    while not place.is_mount() and place != place.parent:
        place = place.parent
    return str(place)
