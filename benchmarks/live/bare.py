"""The least there is: an asyncio server that broadcasts to all its sockets with `websockets`. `PORT` to listen on.

Whoever sends it `COUNT` on /burst makes it send so many frames, each like one of the platform's events.
"""

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.live.burst import frames


async def main(port: int) -> None:
    """Serve for ever."""
    watching: set[ServerConnection] = set()

    async def handle(socket: ServerConnection) -> None:
        if socket.request is not None and socket.request.path == "/burst":
            for frame in frames(int(await socket.recv())):
                broadcast(watching, frame)
            return
        watching.add(socket)
        await socket.wait_closed()
        watching.discard(socket)

    async with serve(handle, "127.0.0.1", port, compression=None, ping_interval=None, max_queue=None):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
