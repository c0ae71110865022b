"""What tracing costs a step: off, unsampled, with a collector that takes spans, that is dead, that hangs.

`python -m benchmarks.tracing MODE ENDPOINT STEPS` is one process as a worker's; its last line is JSON.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from benchmarks.host import ROOT, environment
from benchmarks.tables import spread, table

STEPS, QUICK_STEPS = 20_000, 500
A_SERIES = 100
MODES: Mapping[str, str] = {
    "off": "off",
    "unsampled": "on, this execution not sampled",
    "taken": "on, the collector takes them",
    "dead": "on, the collector is dead",
    "hanging": "on, the collector hangs",
}
Found = Mapping[str, list[Mapping[str, Any]]]


def measured(*, repeat: int, quick: bool) -> Found:
    """By mode, for each run: µs a step of each series, the 99th of a hundred steps and the longest in ms, seconds to
    exit, lines in the log.
    """
    steps = QUICK_STEPS if quick else STEPS
    found: dict[str, list[Mapping[str, Any]]] = {mode: [] for mode in MODES}
    for _ in range(repeat):
        for mode in MODES:
            with _collector(mode) as endpoint:
                found[mode].append(_run(mode, endpoint, steps))
    return found


def _run(mode: str, endpoint: str, steps: int) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory(prefix="platform-bench-") as directory:
        on = {"DAGGER_TRACING_ENABLED": "false" if mode == "off" else "true", "DAGGER_OTLP_ENDPOINT": endpoint}
        sampler = {"OTEL_TRACES_SAMPLER": "always_off"} if mode == "unsampled" else {}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.tracing", mode, endpoint, str(steps)], cwd=ROOT,
            env={**environment(directory, ""), **on, **sampler}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        ended = time.monotonic()
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**told, "exit": ended - told["last"], "lines": len(done.stderr.splitlines())}


@contextlib.contextmanager
def _collector(mode: str) -> Iterator[str]:
    if mode == "taken":
        from tests.support.receiver import Receiver

        receiver = Receiver()
        try:
            yield receiver.endpoint
        finally:
            receiver.stop()
        return
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if mode == "hanging":
            port.listen(50)  # takes connections, and never says a word
        yield f"127.0.0.1:{port.getsockname()[1]}"


def section(found: Found) -> str:
    """The table."""
    rows = []
    off = median(median(run["us"]) for run in found["off"])
    for mode, runs in found.items():
        micro = [median(run["us"]) for run in runs]
        rows.append((
            MODES[mode], spread(micro, 0), f"{median(micro) - off:.0f}",
            spread((run["p99"] for run in runs), 2), spread((run["longest"] for run in runs), 1),
            spread((run["exit"] for run in runs), 1),
            str(max(run["lines"] for run in runs)),
        ))  # fmt: skip
    head = (
        "traces",
        "µs a step of two spans",
        "more than off",
        "p99 of a step, ms",
        "longest step, ms",
        "exit, s",
        "lines in the log",
    )
    return table(head, rows)


def main() -> None:
    """One process: performs steps that do nothing, and tells what they took."""
    import django

    mode, _, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestration.settings.dev")
    django.setup()
    from apps.core import heap
    from apps.executors.tracing import span_of
    from apps.executors.types import StepCall, StepResult
    from apps.monitoring.tracing import around_attempt

    call = StepCall(
        kind="process", config={}, attempt=2, task_key="task", attempt_key="task:2", workflow_id="report",
        execution_id="execution", step_id="step",
    )  # fmt: skip
    result, trace = StepResult(), "0af7651916cd43dd8448eb211c80319c"
    series: list[float] = []
    single: list[float] = []
    for number in range(steps // A_SERIES + 1):
        if number == 1:
            heap.settle()  # as a worker does
        began = time.perf_counter()
        for _ in range(A_SERIES):
            one = time.perf_counter()
            with around_attempt(call, trace) as attempt:
                with span_of("exec"):
                    pass
                attempt.finish(result)
            if number:  # in the first series tracing is set up
                single.append(time.perf_counter() - one)
        if number:
            series.append(1e6 * (time.perf_counter() - began) / A_SERIES)
    single.sort()
    told = {"mode": mode, "us": series, "p99": 1000 * single[len(single) * 99 // 100], "longest": 1000 * single[-1]}
    print(json.dumps({**told, "last": time.monotonic()}), flush=True)


if __name__ == "__main__":
    main()
