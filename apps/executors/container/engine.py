"""Looks whether a Dagger engine is there and of which version, without its SDK."""

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import httpx

from apps.executors.container.work import NotPerformed
from apps.executors.options import Options

ANSWERS_WITHIN = 5.0
"""Seconds that an engine is given to say its version."""

SAME_VERSION = "run the engine and the SDK (`pip install dagger-io==VERSION`) of one version"
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An engine that answers."""

    version: str


async def look(options: Options) -> Seen:
    """Ask the engine for its version. Raises NotPerformed (`unavailable`) where it is not there or of no use."""
    _has_session(options)
    try:
        async with httpx.AsyncClient(timeout=ANSWERS_WITHIN, trust_env=False) as client:
            answer = await client.post(_url(options), json=_QUERY, auth=(options.dagger_token, ""))
    except httpx.HTTPError as error:
        raise unavailable(options, type(error).__name__) from error
    return _seen(options, answer)


def look_now(options: Options) -> Seen:
    """The same, blocking."""
    _has_session(options)
    try:
        answer = httpx.post(
            _url(options), json=_QUERY, auth=(options.dagger_token, ""), timeout=ANSWERS_WITHIN, trust_env=False
        )
    except httpx.HTTPError as error:
        raise unavailable(options, type(error).__name__) from error
    return _seen(options, answer)


def sdk_version() -> str:
    """The installed SDK's version, "" where it is not installed."""
    try:
        return version("dagger-io")
    except PackageNotFoundError:
        return ""


def unavailable(options: Options, why: str) -> NotPerformed:
    """Engine unavailable, with what to do."""
    message = (
        f"engine unavailable: no Dagger engine answers as it should at 127.0.0.1:{options.dagger_port} ({shown(why)}). "
        "Start the workers within a session (`dagger run make run`), or let DAGGER_SESSION_PORT and "
        "DAGGER_SESSION_TOKEN name one"
    )
    return NotPerformed("unavailable", message)


def shown(text: str) -> str:
    """The first line of what an engine said, as the inside of a sentence."""
    return text.partition("\n")[0][:300].rstrip(". ")


_QUERY = {"query": "{ version }"}


def _url(options: Options) -> str:
    return f"http://127.0.0.1:{options.dagger_port}/query"


def _has_session(options: Options) -> None:
    if options.dagger_port is None or not options.dagger_token:
        message = (
            "engine unavailable: CONTAINER_RUNTIME is dagger, but there is no session. Start the workers within one "
            "(`dagger run make run`), or set DAGGER_SESSION_PORT and DAGGER_SESSION_TOKEN"
        )
        raise NotPerformed("unavailable", message, retryable=False)
    if not sdk_version():
        message = "engine unavailable: the Dagger SDK is not installed; `pip install -r requirements.txt`"
        raise NotPerformed("unavailable", message, retryable=False)


def _seen(options: Options, answer: httpx.Response) -> Seen:
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        message = "engine unavailable: it refuses DAGGER_SESSION_TOKEN; take port and token from the same session"
        raise NotPerformed("unavailable", message, retryable=False)
    try:
        found = answer.json()["data"]["version"]
    except (ValueError, KeyError, TypeError):
        found = None
    if answer.status_code != httpx.codes.OK or not isinstance(found, str):
        raise unavailable(options, f"what answers there is no Dagger engine that works: HTTP {answer.status_code}")
    theirs, ours = _VERSION.match(found), _VERSION.match(sdk_version())
    if theirs and ours and theirs.groups() != ours.groups():
        message = f"engine unavailable: it is {found[:50]} and the SDK {sdk_version()}; {SAME_VERSION}"
        raise NotPerformed("unavailable", message, retryable=False)
    return Seen(version=found[:100])
