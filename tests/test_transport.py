"""A connection is dropped at once, whatever was done to it before."""

from __future__ import annotations

import asyncio
import ssl

import trustme

from receiptd.transport import abort


async def test_a_tls_transport_that_was_closed_twice_can_still_be_dropped() -> None:
    """CPython 3.11.2 forgets what to drop."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    served: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await served.put(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    reader, client = await asyncio.open_connection("127.0.0.1", port, ssl=client_context, server_hostname="localhost")
    writer = await served.get()
    for _ in range(2):
        writer.close()
    abort(writer.transport)
    assert await reader.read() == b""
    client.close()
    await client.wait_closed()
    server.close()
    await server.wait_closed()
