"""Learns for another process: what it is to learn from comes in on a connection, the calibration goes out.

It runs at the lowest priority, and ends when the other closes the connection or dies.
"""

import os
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

from apps.workflows.estimate import learn

LEAST_PRIORITY = 19


def serve(descriptor: int) -> None:
    """Until the other end of the connection is closed."""
    with Connection(descriptor) as link, suppress(EOFError, ConnectionError):
        while True:
            shape, before, ended, calibration, slots = link.recv()
            link.send(learn(shape, before, ended, calibration, slots=slots))


if __name__ == "__main__":
    os.nice(LEAST_PRIORITY)
    serve(int(sys.argv[1]))
