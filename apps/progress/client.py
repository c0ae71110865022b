"""Live progress for a Python program: every event once and in order, across lost connections and restarted servers.

```python
async with Progress("ws://localhost:8000", "sales-report", token=TOKEN) as told:
    async for frame in told:
        print(frame)
```

For programs outside the server: one file that needs `websockets` and nothing else, so it can be imported from a
checkout or copied. It knows no more than the protocol says (docs/progress.asyncapi.json).
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

FIRST_WAIT, MOST_WAIT = (
    0.25,
    30.0,
)  # seconds between attempts to connect: doubled each time, less up to a half by chance
SILENCE = 30.0  # seconds without a frame after which the peer is asked whether it lives
FINAL = {4400: "refused", 4403: "no longer permitted", 4404: "not found"}
"""Close codes after which to connect again would be in vain."""
ENDED = frozenset({"execution.completed", "execution.failed", "execution.timed_out", "execution.cancelled"})

Token = str | Callable[[], Awaitable[str]] | None
"""A bearer token, or what gives one each time a connection is made (a token that has expired is then renewed)."""


class Ended(Exception):
    """The server says that this is over; `code` is the socket's close code, or the HTTP status of the handshake."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Gap(Exception):
    """An event came that is not the next: it cannot be, and so it is told rather than passed over."""


class Progress:
    """The frames about one workflow's newest execution, or one execution. Iterate over it.

    `workflow_id` and `since` say where to begin; a cursor that was kept is an execution's id and the `seq` of its last
    event. It ends with the execution, or (`until_ended` False) never. `connections` counts how often it connected.
    Raises `Ended` where the server says so, and `Gap` rather than pass an event over.
    """

    def __init__(
        self,
        server: str,
        workflow_id: str,
        *,
        token: Token = None,
        since: int | None = None,
        until_ended: bool = True,
        coalesce: bool = False,
    ) -> None:
        self._url = server.rstrip("/") + "/progress/ws"
        self._workflow_id = workflow_id
        self._token = token
        self._until_ended = until_ended
        self._coalesce = coalesce
        self._since = since
        self._resumed = False  # the next snapshot is the first of a connection that goes on after a cursor
        self._execution: str | None = None
        self._frames: AsyncIterator[dict[str, Any]] | None = None
        self.connections = 0

    @property
    def cursor(self) -> tuple[str | None, int | None]:
        """(execution, seq) of the last event."""
        return self._execution, self._since

    async def __aenter__(self) -> "Progress":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._frames is not None:
            await self._frames.aclose()  # type: ignore[attr-defined]  # it is an async generator

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        self._frames = self._run()
        return self._frames

    async def _run(self) -> AsyncIterator[dict[str, Any]]:
        failures = 0
        while True:
            try:
                async with await self._connect() as socket:
                    self.connections += 1
                    async for text in socket:
                        frame: dict[str, Any] = json.loads(text)
                        if frame["type"] == "error":
                            continue  # the close that follows says whether to come again
                        over = self._note(frame)
                        failures = 0
                        yield frame
                        if over and self._until_ended:
                            return
                    _unless_final(socket.close_code)
            except ConnectionClosed as error:
                _unless_final(error.rcvd.code if error.rcvd else None)
            except InvalidStatus as error:
                _unless_refused(error.response.status_code)
            except (OSError, TimeoutError, InvalidHandshake):
                pass
            wait = min(MOST_WAIT, FIRST_WAIT * 2**failures)
            failures += 1
            await asyncio.sleep(wait * (1 - random.random() / 2))  # noqa: S311  # so that not all come back at once

    async def _connect(self) -> ClientConnection:
        query: dict[str, str] = {"workflow_id": self._execution or self._workflow_id}
        self._resumed = self._since is not None
        if self._since is not None:
            query["since"] = str(self._since)
        if self._coalesce:
            query["coalesce"] = "true"
        token = await self._token() if callable(self._token) else self._token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return await connect(
            f"{self._url}?{urlencode(query)}", additional_headers=headers, max_size=None, ping_interval=SILENCE
        )

    def _note(self, frame: Mapping[str, Any]) -> bool:
        """Move the cursor; whether nothing of this execution can follow. Raises `Gap`."""
        if frame["type"] == "event":
            seq = int(frame["seq"])
            if self._since is not None and seq != self._since + 1:
                raise Gap(f"event {seq} came after event {self._since}")
            self._since = seq
            return frame["event"] in ENDED
        if frame["type"] != "snapshot":
            return False
        seq, resumed = int(frame["seq"]), self._resumed
        self._resumed = False
        if self._since is None or (self._coalesce and not resumed):
            self._since = seq  # events follow after it
        elif self._execution is None:
            self._since = min(self._since, seq)  # a cursor beyond the journal is another execution's
        if self._execution is None:
            self._execution = str(frame["execution_id"])
        return bool(frame["finished_at"]) and self._since >= seq


def _unless_final(close_code: int | None) -> None:
    """Raises `Ended` where to come again would be in vain."""
    if close_code in FINAL:
        raise Ended(close_code, FINAL[close_code])


def _unless_refused(status: int) -> None:
    if 400 <= status < 500 and status not in (408, 429):
        raise Ended(status, "the handshake was refused")
