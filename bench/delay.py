"""A line that is slow to answer but wide: `python -m bench.delay LISTEN TARGET MILLISECONDS`, each way, up to SIGTERM.

What comes is passed on as much later, in its order, with no limit to how much is under way.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

PIECE = 1 << 18


async def serve(listen: int, target: int, delay: float) -> None:
    """`delay`: seconds each way."""

    async def joined(reader: StreamReader, writer: StreamWriter) -> None:
        # A client is connected after a round trip, and it takes half of one more until the server knows.
        await asyncio.sleep(3 * delay)
        there, to = await asyncio.open_connection("127.0.0.1", target, limit=PIECE)
        for end in (writer, to):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(_pass_on(reader, to, delay), _pass_on(there, writer, delay))

    server = await asyncio.start_server(joined, "127.0.0.1", listen, limit=PIECE)
    await server.serve_forever()


async def _pass_on(reader: StreamReader, writer: StreamWriter, delay: float) -> None:
    now = asyncio.get_running_loop().time
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        with suppress(ConnectionError):
            while True:
                at, data = await under_way.get()
                await asyncio.sleep(max(0.0, at - now()))
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        writer.close()

    arriving = asyncio.create_task(arrive())
    data = b"-"
    while data:
        try:
            data = await reader.read(PIECE)
        except ConnectionError:
            data = b""
        under_way.put_nowait((now() + delay, data))
    await arriving


if __name__ == "__main__":
    listen, target, milliseconds = sys.argv[1:]
    asyncio.run(serve(int(listen), int(target), float(milliseconds) / 1000))
