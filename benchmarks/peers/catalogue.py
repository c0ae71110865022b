"""Which systems are measured, what each needs, and what of theirs survives a crash."""

from dataclasses import dataclass
from typing import Literal

Store = Literal["redis", "sqlite", "postgres", "prefect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One system on one store. `requirements` are installed together; the version of the first is told."""

    name: str
    script: str
    requirements: tuple[str, ...]
    store: Store
    scheme: str = ""
    durable: str


_DBOS = ("dbos", "psycopg[binary]")

PEERS = (
    Peer(
        name="Celery, Redis",
        script="on_celery.py",
        requirements=("celery[redis]", "packaging"),  # kombu imports it and does not ask for it
        store="redis",
        durable="the queue, to within a second (append-only file)",
    ),
    Peer(
        name="DBOS, SQLite",
        script="on_dbos.py",
        requirements=_DBOS,
        store="sqlite",
        scheme="sqlite:///",
        durable="each step",
    ),
    Peer(
        name="DBOS, PostgreSQL",
        script="on_dbos.py",
        requirements=_DBOS,
        store="postgres",
        scheme="postgresql+psycopg",
        durable="each step",
    ),
    Peer(
        name="Procrastinate, PostgreSQL",
        script="on_procrastinate.py",
        requirements=("procrastinate", "psycopg[binary]"),
        store="postgres",
        scheme="postgresql",
        durable="the queue",
    ),
    Peer(
        name="Prefect, SQLite",
        script="on_prefect.py",
        requirements=("prefect>=3,<4", "fastapi==0.150.0"),  # the newest FastAPI breaks its server
        store="prefect",
        durable="no: its server learns of the steps later",
    ),
)
