"""Clients that send requests through TLS, which a proxy opens. Prints one line as traffic.c does.

``load_tls.py HOST PORT NAME NAMEPORT CA CONNECTIONS SECONDS``
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time

END = b"hello, world\n"


async def main(arguments: list[str]) -> None:
    """Keep every connection busy until the time is over."""
    host, port, name, name_port, ca, connections, seconds = arguments
    context = ssl.create_default_context(cafile=ca)
    authority = f"{name}:{name_port}"
    latencies: list[float] = []
    octets = failures = 0
    began = time.perf_counter()
    end = began + float(seconds)

    async def one() -> None:
        nonlocal octets, failures
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        if b" 200 " not in await reader.readuntil(b"\r\n\r\n"):
            failures += 1
            return
        # What StreamWriter.start_tls does since Python 3.11.
        loop = asyncio.get_running_loop()
        protocol = writer.transport.get_protocol()
        transport = await loop.start_tls(writer.transport, protocol, context, server_hostname=name)
        assert transport is not None
        reader._transport = transport  # type: ignore[attr-defined]
        asked = 0
        while time.perf_counter() < end:
            asked += 1
            request = (
                f"GET /v1/{asked % 64}?limit=3 HTTP/1.1\r\nHost: {authority}\r\n"
                "User-Agent: bench/1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
            )
            sent = time.perf_counter()
            transport.write(request.encode())
            answer = await reader.readuntil(END)
            octets += len(answer)
            if not answer.startswith(b"HTTP/1.1 200"):
                failures += 1
                return
            latencies.append(time.perf_counter() - sent)
        transport.abort()

    results = await asyncio.gather(
        *(one() for _ in range(int(connections))), return_exceptions=True
    )
    for each in results:
        if isinstance(each, BaseException):
            failures += 1
            print(repr(each), file=sys.stderr)
    took = time.perf_counter() - began
    latencies.sort()
    middle, late = (
        (latencies[int(len(latencies) * part)] * 1e6 for part in (0.5, 0.99))
        if latencies
        else (0.0, 0.0)
    )
    print(len(latencies), octets, failures, f"{took:.6f} {middle:.1f} {late:.1f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
