"""Short pauses: what a process has when it begins its work is left out of garbage collections."""

import gc


def settle() -> None:
    """Call it once, when everything is imported.

    A full collection walks every object that may be part of a cycle: with Django, its models and all routes that
    stops a process for about 140 ms, again and again. What is there at the beginning lives as long as the process, so
    it need not be looked at; a full collection then takes about 3 ms (`python -m benchmarks --only tracing` shows
    the longest step).
    """
    gc.collect()
    gc.freeze()
