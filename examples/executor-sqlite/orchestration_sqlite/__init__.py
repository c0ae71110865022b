"""Steps of kind `sqlite`: one statement on a SQLite file, read-only, its rows as outputs."""

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from apps.executors import Options, Sink, StepCall, StepError, StepResult


class Config(BaseModel):
    """What a step says in `with`. A workflow file is checked by it when it is saved, and once more when it runs."""

    model_config = ConfigDict(extra="forbid")

    file: str = Field(min_length=1, description="Path of the database.")
    query: str = Field(min_length=1, max_length=10_000, description="One statement; `?` stands for a parameter.")
    parameters: list[str | int | float | None] = Field(default_factory=list, max_length=100)
    limit: int = Field(default=1_000, ge=1, le=10_000, description="Rows that are kept.")


class SqliteExecutor:
    """Made once in each worker, with the installation's options, when the first step of its kind comes."""

    kind = "sqlite"
    Config = Config

    def __init__(self, options: Options) -> None:
        self._options = options

    async def run(self, call: StepCall, sink: Sink) -> StepResult:
        """Perform one attempt. Raises nothing but CancelledError: every failure is a result."""
        try:
            config = Config.model_validate(call.config)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, wrong["loc"]))
            return StepResult(error=StepError(type="invalid", message=f"{field}: {wrong['msg']}", retryable=False))
        try:
            connection = sqlite3.connect(f"file:{config.file}?mode=ro", uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            # Nothing was tried: a circuit breaker opens at once, and the step waits in line.
            return StepResult(error=StepError(type="unavailable", message=f"{config.file}: {error}"))
        with closing(connection):
            reading = asyncio.create_task(asyncio.to_thread(_rows, connection, config))
            try:
                rows = await asyncio.shield(reading)
            except asyncio.CancelledError:
                # A deadline or a cancel: stop the statement, and leave nothing running behind.
                connection.interrupt()
                await asyncio.wait([reading])
                raise
            except sqlite3.Error as error:
                return StepResult(error=StepError(type="error", message=str(error), retryable=False))
        sink.log("stdout", f"{len(rows)} rows\n")
        return StepResult(outputs={"rows": rows, "count": len(rows)})

    async def close(self) -> None:
        """Nothing is kept between steps."""


def _rows(connection: sqlite3.Connection, config: Config) -> list[dict[str, Any]]:
    cursor = connection.execute(config.query, config.parameters)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchmany(config.limit)]
