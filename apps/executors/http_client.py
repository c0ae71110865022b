"""An HTTP client that looks at the address it really connects to. Imported with the first HTTP step.

A name is resolved here, every one of its addresses is checked, and the connection goes to a checked address: there
is no second lookup between check and use, and each redirect passes the same way. Proxies, cookies and netrc of the
server's environment are not used.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable

import certifi
import httpcore
import httpx
from httpcore import AsyncNetworkBackend, AsyncNetworkStream

from apps.executors import addresses

CONNECT_SECONDS = 15.0
"""For each address; the whole request has the step's own deadline."""

SocketOptions = Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]


class Refused(Exception):
    """The address is not one that a step may reach."""


class CheckedBackend(AsyncNetworkBackend):
    """Opens TCP connections to public addresses, or to hosts that the settings allow."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = addresses.AllowedHosts(allowed)
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> AsyncNetworkStream:
        """Resolve, check all, connect to the first that answers. Raises Refused or httpcore.ConnectError."""
        found = await _resolve(host, port)
        if not self._allowed.holds(host, port):
            own = addresses.own_addresses()
            for address in found:
                if kind := addresses.refusal(address, own=own):
                    raise Refused(f"{host} leads to {kind}")
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in found:
            try:
                return await self._backend.connect_tcp(
                    address, port, timeout=timeout, local_address=local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,  # noqa: ARG002 -- as the base class has it
        timeout: float | None = None,  # noqa: ARG002
        socket_options: SocketOptions | None = None,  # noqa: ARG002
    ) -> AsyncNetworkStream:
        """Never. Raises Refused."""
        raise Refused("unix sockets cannot be reached")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class Transport(httpx.AsyncBaseTransport):
    """httpx over httpcore with our backend. Public interfaces only, so that an upgrade cannot slip past the check.

    Raises httpcore's exceptions and Refused.
    """

    def __init__(self, allowed: frozenset[str]) -> None:
        context = ssl.create_default_context()  # the host's authorities, and a company's own among them
        context.load_verify_locations(certifi.where())  # a slim image has none
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=None,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=CheckedBackend(allowed),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; redirects are the caller's."""
        response = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Drop every connection."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._response.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._response.aclose()


async def _resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host} cannot be resolved") from error
    # A zone (fe80::1%eth0) is cut off: what has one is link-local and refused, or exempt and reached without it.
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
