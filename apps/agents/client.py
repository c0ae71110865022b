"""What the author of an agent imports: it claims, keeps leases, runs a coroutine for each task, reports, and drains.

    async def review(task):
        await task.progress(50, "reading")
        return {"verdict": "good"}

    Agent("https://platform.example", agent_id, token, slots=2).run(review)

It needs httpx and nothing else of this repository: copy this file, or write the same in another language. A task may be
performed more than once (`task.key` names the attempt, `task.id` the task, for whoever can tell repetitions apart); its
result is recorded once.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx

logger = logging.getLogger("agent")

WAIT_SECONDS = 30.0
DRAIN_SECONDS = 20.0
ANSWER_SECONDS = 1.0  # an answer to a claim may be on its way for so long
MOST_SECONDS_BETWEEN_BEATS = 10.0
LEAST_SECONDS_BETWEEN_BEATS = 0.25
BEATS_A_LEASE = 3
MOST_BACKOFF = 10.0
MOST_ERROR = 2000  # characters, as of the next two
MOST_MESSAGE = 1000
MOST_LINE = 16_384
LINES_AT_ONCE = 40  # of that length, however they are written: less than a body may have

_CANCELLED, _LOST = "cancelled", "lost"


class TaskFailed(Exception):
    """Raised by a coroutine to say how its task failed; by default another attempt would not help."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class Refused(Exception):
    """The credential does not hold (any more): the agent was disabled or removed, or its credential rotated."""


class Stale(Exception):
    """The task is not this agent's any more; raised by what is reported about it."""


@dataclass(eq=False)
class Task:
    """One attempt of one task. `inputs` is the step's `with`, resolved."""

    id: str
    attempt: int
    workflow_id: str
    execution_id: str
    step_id: str
    inputs: Mapping[str, Any]
    agent: "Agent" = field(repr=False)
    _lines: int = 0
    _why: str = ""  # it was broken off

    @property
    def key(self) -> str:
        """The same for every repetition of a request about this attempt."""
        return f"{self.id}:{self.attempt}"

    async def progress(self, percent: float, message: str = "") -> None:
        """Say how far it is, 0 to 100. Raises `Stale`."""
        short = _clean(message)[:MOST_MESSAGE]
        await self.agent._about(self, "progress", {"percent_complete": percent, "message": short})

    async def log(self, text: str, *, stream: str = "stdout") -> None:
        """Append to its log, of whatever length. Raises `Stale`."""
        clean = _clean(text)
        pieces = [clean[start : start + MOST_LINE] for start in range(0, len(clean), MOST_LINE)]
        first, self._lines = self._lines + 1, self._lines + len(pieces)
        lines = [{"number": n, "stream": stream, "text": piece} for n, piece in enumerate(pieces, first)]
        for start in range(0, len(lines), LINES_AT_ONCE):
            await self.agent._about(self, "logs", {"lines": lines[start : start + LINES_AT_ONCE]})

    async def artifact(self, name: str, content: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Leave a file of at most 4 MiB. Raises `Stale`, and `httpx.HTTPStatusError` where it is refused."""
        query = {"attempt": str(self.attempt), "name": name}
        headers = {"Content-Type": content_type}
        path = f"/tasks/{self.id}/artifacts"
        answer = await self.agent._insist(path, params=query, content=content, headers=headers)
        if answer.status_code == HTTPStatus.CONFLICT and "stale_attempt" in answer.text:
            raise Stale(answer.text)
        answer.raise_for_status()


Perform = Callable[[Task], Awaitable[Mapping[str, Any] | None]]


class Agent:
    """A registered agent. `slots` are the tasks it performs at a time: at most those that it was registered with.

    One process speaks for one agent: what a heartbeat does not name goes to others.
    """

    def __init__(
        self,
        url: str,
        agent_id: str,
        token: str,
        *,
        slots: int = 1,
        drain_seconds: float = DRAIN_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._base = f"{url.rstrip('/')}/agents/{agent_id}"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._slots, self._drain_seconds, self._wait_seconds = slots, drain_seconds, wait_seconds
        self._running: dict[tuple[str, int], tuple[Task, asyncio.Task[None]]] = {}
        self._interval = LEAST_SECONDS_BETWEEN_BEATS
        self._draining = asyncio.Event()
        self._freed = asyncio.Event()
        self._client: httpx.AsyncClient

    def run(self, perform: Perform) -> None:
        """Perform tasks until SIGTERM or SIGINT; then end those that run, for at most `drain_seconds`.

        Raises `Refused` where the credential does not hold (any more).
        """
        asyncio.run(self._run_with_signals(perform))

    async def serve(self, perform: Perform) -> None:
        """As `run`, in a loop of the caller's, until `drain`."""
        timeout = httpx.Timeout(15.0, read=self._wait_seconds + 30.0)
        async with httpx.AsyncClient(headers=self._headers, timeout=timeout) as self._client:
            beating = asyncio.create_task(self._beat_on())
            claiming = asyncio.create_task(self._claim_on(perform))
            draining = asyncio.create_task(self._draining.wait())
            try:
                await asyncio.wait((beating, claiming, draining), return_when=asyncio.FIRST_COMPLETED)
                # What a claim's answer brings is this agent's already: one that is on its way is waited for.
                await asyncio.wait((claiming,), timeout=ANSWER_SECONDS)
                claiming.cancel()
                await self._end_what_runs()
            finally:
                for one in (beating, claiming, draining):
                    one.cancel()
                done = await asyncio.gather(beating, claiming, draining, return_exceptions=True)
            for ended in done:
                if isinstance(ended, Exception):
                    raise ended
            with contextlib.suppress(httpx.HTTPError, Refused):
                await self._ask("/heartbeat", {"tasks": []})

    def drain(self) -> None:
        """Claim no more, and come to an end."""
        self._draining.set()

    async def _run_with_signals(self, perform: Perform) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.drain)
        await self.serve(perform)

    # -- claiming ----------------------------------------------------------------------------------------------------

    async def _claim_on(self, perform: Perform) -> None:
        while not self._draining.is_set():
            self._freed.clear()
            free = self._slots - len(self._running)
            if free <= 0:
                await self._freed.wait()
                continue
            answer = await self._insist("/claim", {"max": free, "wait_seconds": self._wait_seconds})
            for one in answer.json()["tasks"]:
                self._start(perform, one)

    def _start(self, perform: Perform, one: Mapping[str, Any]) -> None:
        task = Task(
            id=one["task_id"],
            attempt=one["attempt"],
            workflow_id=one["workflow_id"],
            execution_id=one["execution_id"],
            step_id=one["step_id"],
            inputs=one["inputs"],
            agent=self,
        )
        key = (task.id, task.attempt)
        if key not in self._running:
            self._running[key] = (task, asyncio.create_task(self._perform(perform, task)))

    async def _perform(self, perform: Perform, task: Task) -> None:
        try:
            what, body = await self._outcome(perform, task)
            if what:
                await self._report(task, what, body)
        except Stale:
            logger.warning("%s of %s went to another", task.key, task.step_id)
        except Refused:
            logger.warning("%s of %s was refused", task.key, task.step_id)
        except Exception:
            logger.exception("%s of %s could not be reported", task.key, task.step_id)
        finally:
            self._running.pop((task.id, task.attempt), None)
            self._freed.set()

    async def _outcome(self, perform: Perform, task: Task) -> tuple[str, dict[str, Any]]:
        try:
            outputs = await perform(task)
        except asyncio.CancelledError:
            if task._why != _CANCELLED:
                return "", {}
            return "fail", {"error": "cancelled", "retryable": False}
        except Stale:
            raise
        except TaskFailed as failed:
            return "fail", {"error": _text(failed), "retryable": failed.retryable}
        except Exception as error:
            logger.exception("%s of %s failed", task.key, task.step_id)
            return "fail", {"error": _text(error), "retryable": True}
        return "complete", {"outputs": {} if outputs is None else outputs}

    async def _report(self, task: Task, what: str, body: Mapping[str, Any]) -> None:
        try:
            await self._about(task, what, body)
        except (httpx.HTTPStatusError, TypeError, ValueError) as error:
            if what == "fail":
                raise
            # What was returned cannot be recorded: another attempt would return the same.
            detail = error.response.text if isinstance(error, httpx.HTTPStatusError) else str(error)
            message = _clean(f"its outputs cannot be recorded: {detail}")[:MOST_ERROR]
            await self._about(task, "fail", {"error": message, "retryable": False})

    async def _end_what_runs(self) -> None:
        running = [one for _, one in self._running.values()]
        if running:
            await asyncio.wait(running, timeout=self._drain_seconds)
        for task, one in list(self._running.values()):
            self._break_off(task, one, _LOST)
        await asyncio.gather(*(one for _, one in self._running.values()), return_exceptions=True)

    @staticmethod
    def _break_off(task: Task, one: "asyncio.Task[None]", why: str) -> None:
        if not task._why:
            task._why = why
            one.cancel()

    # -- keeping what it has -----------------------------------------------------------------------------------------

    async def _beat_on(self) -> None:
        while True:
            named = [{"task_id": task.id, "attempt": task.attempt} for task, _ in self._running.values()]
            answer = await self._insist("/heartbeat", {"tasks": named}, patience=self._interval)
            self._learn(answer)
            told = answer.json()
            for task, one in list(self._running.values()):
                if task.id in told["lost"]:
                    logger.warning("%s of %s went to another", task.key, task.step_id)
                    self._break_off(task, one, _LOST)
                elif task.id in told["cancel"]:
                    self._break_off(task, one, _CANCELLED)
            await asyncio.sleep(self._interval)

    def _learn(self, answer: httpx.Response) -> None:
        """A lease lasts from the answer's own date on: no clock of this host is asked."""
        with contextlib.suppress(KeyError, ValueError):
            until = datetime.fromisoformat(answer.json()["lease_expires_at"])
            lease = (until - parsedate_to_datetime(answer.headers["Date"])).total_seconds()
            wanted = max(LEAST_SECONDS_BETWEEN_BEATS, lease / BEATS_A_LEASE)
            self._interval = min(MOST_SECONDS_BETWEEN_BEATS, wanted)

    # -- speaking ----------------------------------------------------------------------------------------------------

    async def _about(self, task: Task, what: str, body: Mapping[str, Any]) -> None:
        """Report, until it is answered. Raises `Stale`, `httpx.HTTPStatusError` for what is refused."""
        answer = await self._insist(f"/tasks/{task.id}/{what}", {"attempt": task.attempt, **body})
        if answer.status_code in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
            raise Stale(answer.text)
        answer.raise_for_status()

    async def _insist(
        self, path: str, body: Mapping[str, Any] | None = None, *, patience: float = MOST_BACKOFF, **given: Any
    ) -> httpx.Response:
        """Ask again where nothing answers or there is no room now; `patience` bounds the seconds between two tries."""
        pause = 0.0
        while True:
            retry_after = 0.0
            try:
                answer = await self._ask(path, body, **given)
            except httpx.TransportError as error:
                told: object = f"{type(error).__name__}: {error}"
            else:
                if answer.status_code != HTTPStatus.TOO_MANY_REQUESTS and answer.status_code < 500:
                    return answer
                told = answer.status_code
                retry_after = float(answer.headers.get("Retry-After", 0))
            if not pause:
                logger.warning("%s: %s; trying again", path, told)
            pause = min(patience, max(0.2, pause * 2))
            await asyncio.sleep(max(pause, retry_after))

    async def _ask(self, path: str, body: Mapping[str, Any] | None = None, **given: Any) -> httpx.Response:
        if body is not None:
            given["json"] = body
        answer = await self._client.post(f"{self._base}{path}", **given)
        if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise Refused(answer.text)
        if path in ("/claim", "/heartbeat") and answer.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
            answer.raise_for_status()
        return answer


def _text(error: BaseException) -> str:
    return _clean(str(error)).strip()[:MOST_ERROR] or type(error).__name__


def _clean(text: str) -> str:
    """`text` without what no JSON and no database takes: a name of a file that is no UTF-8 may have it."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
