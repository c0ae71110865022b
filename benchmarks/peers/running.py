"""Runs the peers' scripts, a process for each shape, with a limit on its time; a failure is told, never dropped."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.peers.catalogue import PEERS, Peer
from benchmarks.peers.environments import MissingError, name_of, python_for, version_of
from benchmarks.peers.stores import opened
from benchmarks.shapes import Sizes

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Milliseconds a step, a figure for each run that ended; `problem` says why there are not as many as asked for."""

    figures: tuple[float, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A peer: the version that was installed, and its outcome by shape."""

    peer: Peer
    version: str
    shapes: Mapping[str, Outcome] = field(default_factory=dict)


def measured(
    shapes: Sequence[str], sizes: Sizes, *, repeat: int, workers: int, postgres_url: str
) -> Iterator[Measured]:
    """Every peer in turn."""
    for peer in PEERS:
        sys.stderr.write(f"{peer.name}\n")
        try:
            python = python_for(peer.requirements)
        except MissingError as missing:
            unmeasured = Outcome(problem=str(missing))
            yield Measured(peer=peer, version=name_of(peer.requirements), shapes=dict.fromkeys(shapes, unmeasured))
            continue
        outcomes = {}
        for shape in shapes:
            sys.stderr.write(f"  {shape}\n")
            options = {
                "shape": shape, "size": sizes.count(shape), "n": sizes.n(shape), "runs": repeat, "workers": workers,
            }  # fmt: skip
            outcomes[shape] = _one(peer, python, options, limit=sizes.limit_seconds, postgres_url=postgres_url)
        yield Measured(peer=peer, version=version_of(python, peer.requirements), shapes=outcomes)


def _one(peer: Peer, python: Path, options: Mapping[str, object], *, limit: float, postgres_url: str) -> Outcome:
    command = [str(python), str(HERE / peer.script)]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    name = f"{peer.script[3:-3]}_{options['shape']}"
    try:
        with (
            tempfile.TemporaryDirectory(prefix="platform-peer-", ignore_cleanup_errors=True) as directory,
            opened(peer, Path(directory), postgres_url, name) as store,
        ):
            return _run(command, {**_clean(), **store}, limit, int(str(options["runs"])))
    except MissingError as missing:
        return Outcome(problem=str(missing))


def _run(command: list[str], environment: Mapping[str, str], limit: float, runs: int) -> Outcome:
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as told:
        process = subprocess.Popen(command, env=environment, stdout=printed, stderr=told)
        problem = ""
        try:
            status = process.wait(limit)
            problem = f"failed (status {status})" if status else ""
        except subprocess.TimeoutExpired:
            problem = f"did not finish in {limit:g} s"
        finally:
            _end(process)
        printed.seek(0)
        figures = tuple(json.loads(line)["ms"] for line in printed.read().splitlines() if line.startswith(b'{"ms"'))
        if problem:
            told.seek(0)
            sys.stderr.write(f"    {problem}\n{told.read()[-1500:].decode(errors='replace')}\n")
    if problem and figures:
        problem = f"{len(figures)} of {runs} runs; {problem}"
    return Outcome(figures=figures, problem=problem)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(process.pid)
        family = [*first.children(recursive=True), first]
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(family, 10)
    process.wait()


def _clean() -> dict[str, str]:
    """The environment without what belongs to this platform's own Python."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "DJANGO_SETTINGS_MODULE", "PREFECT_API_URL")
    return {name: value for name, value in os.environ.items() if name not in ours}
