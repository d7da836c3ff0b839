"""Clients that take their time: heads, bodies, answers, silence; and thousands of them."""

import asyncio
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass

from gateway import Gateway, until
from row import Row, Seen

HEAD_SECONDS = 10
BODY_SECONDS = 2
WRITE_SECONDS = 10
# The gateway looks at its deadlines four times a second; the rest is a busy machine.
LATE_SECONDS = 2


@dataclass
class Held:
    """How long one connection was held, and what it was told at the end."""

    seconds: float
    told: bytes


async def hold(gate: Gateway, source: str, first: bytes, drip: bytes, every: float, patience: float) -> Held:
    """Sends `first`, then `drip` again and again until the other end closes."""
    reader, writer = await asyncio.open_connection(*gate.address, local_addr=(source, 0))
    began = time.monotonic()
    told = bytearray()

    async def listen() -> None:
        while piece := await reader.read(4096):
            told.extend(piece)

    listening = asyncio.create_task(listen())
    try:
        writer.write(first)
        while time.monotonic() - began < patience:
            done, _ = await asyncio.wait({listening}, timeout=every)
            if done:
                listening.result()
                break
            if drip:
                writer.write(drip)
    except OSError:
        pass  # reset: cut as well
    finally:
        listening.cancel()
        writer.transport.abort()
    return Held(time.monotonic() - began, bytes(told))


def hold_many(gate: Gateway, count: int, first: bytes, drip: bytes, every: float, patience: float, sources=("127.0.0.1",)):
    async def all_of_them():
        tasks = []
        for number in range(count):
            source = sources[number % len(sources)]
            tasks.append(asyncio.create_task(hold(gate, source, first, drip, every, patience)))
            if number % 50 == 49:
                await asyncio.sleep(0.01)
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(all_of_them())
    return [held for held in results if isinstance(held, Held)], [e for e in results if not isinstance(e, Held)]


def judge(seen: Seen, helds, errors, limit: float, status: bytes | None) -> None:
    """All cut in time, each told why."""
    latest = max((held.seconds for held in helds), default=float("inf"))
    seen.expect(latest <= limit + LATE_SECONDS, f"cut after {latest:.1f} s, not {limit} s")
    seen.expect(not errors, f"{len(errors)} connections failed: {errors[:1]}")
    told = f"all {len(helds)} cut after at most {latest:.1f} s"
    if status is not None:
        wrong = [held for held in helds if not held.told.startswith(b"HTTP/1.1 " + status)]
        seen.expect(not wrong, f"{len(wrong)} told something else: {wrong[:1]}")
        told += f" with {status.decode()}"
    seen.defence = told


def slowhttptest(gate: Gateway, *options: str) -> subprocess.Popen | None:
    if not shutil.which("slowhttptest"):
        return None
    command = ["slowhttptest", "-c", "400", "-r", "200", "-v", "0", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def after_tool(tool: subprocess.Popen | None, seen: Seen) -> Seen:
    if tool is None:
        seen.defence += "; slowhttptest is missing, own clients only"
        return seen
    try:
        tool.wait(15)
    except subprocess.TimeoutExpired:
        tool.kill()
        tool.wait()
    seen.defence += "; slowhttptest beside it"
    return seen


def slow_headers(gate: Gateway, seconds: float) -> Seen:
    tool = slowhttptest(gate, "-H", "-i", "2", "-l", "11", "-u", f"{gate.url}/v1/status")
    first = b"POST /v1/verify HTTP/1.1\r\nhost: g\r\n"
    seen = Seen()
    judge(seen, *hold_many(gate, 200, first, b"x-a: b\r\n", 1, HEAD_SECONDS + 8), HEAD_SECONDS, b"408")
    return after_tool(tool, seen)


def slow_body(gate: Gateway, seconds: float) -> Seen:
    # slowhttptest takes no header but these; the key rides on one of them.
    kind = f"application/json\r\nauthorization: Bearer {gate.key}"
    tool = slowhttptest(gate, "-B", "-i", "1", "-l", "5", "-s", "2048", "-f", kind, "-u", f"{gate.url}/v1/verify")
    head = gate.request(body=b"").replace(b"content-length: 0", b"content-length: 900")
    seen = Seen()
    judge(seen, *hold_many(gate, 200, head + b'{"', b" ", 0.5, BODY_SECONDS + 8), BODY_SECONDS, b"408")
    return after_tool(tool, seen)


def slow_read(gate: Gateway, seconds: float) -> Seen:
    """Clients that ask for much and read nothing: the gateway must give them up.

    A full window hides even the closing from them, so the gateway's own count
    of connections is what is watched.
    """
    count = lambda: gate.metrics().get("peselgate_connections", 0)
    tool = slowhttptest(
        gate, "-X", "-w", "16", "-y", "64", "-n", "5", "-z", "8", "-k", "4", "-l", "11", "-u", f"{gate.url}/openapi.yaml"
    )
    clients = []
    for _ in range(32):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(2)
        client.connect(gate.address)
        client.setblocking(False)
        try:
            client.send(b"GET /openapi.yaml HTTP/1.1\r\nhost: g\r\n\r\n" * 400)
        except BlockingIOError:
            pass
        clients.append(client)
    seen = Seen()
    until(lambda: count() >= 32, 5, every=0.05)
    most = count()
    # The good clients end meanwhile; then nobody may be left but the late.
    given_up = until(lambda: count() <= 0, WRITE_SECONDS * 2 + HEAD_SECONDS, every=0.25)
    seen.expect(most >= 32, f"only {most:.0f} connections were held")
    seen.expect(given_up is not None, f"{count():.0f} connections still held")
    if given_up is not None:
        seen.defence = f"all of up to {most:.0f} connections given up after {given_up:.1f} s"
    for client in clients:
        client.close()
    return after_tool(tool, seen)


def many_slow(gate: Gateway, seconds: float) -> Seen:
    sources = [f"127.0.0.{number}" for number in range(2, 12)]
    seen = Seen()
    first = b"GET /v1/status HTTP/1.1\r\nhost: g\r\n"
    # The clients share a core with everybody else: they take some time to come at all.
    helds, errors = hold_many(gate, 4000, first, b"x: y\r\n", 4, HEAD_SECONDS + 10, sources)
    judge(seen, helds, errors, HEAD_SECONDS + 2, b"408")
    seen.defence += " (10 addresses)"
    return seen


def silent(gate: Gateway, seconds: float) -> Seen:
    """Plain HTTP: connections that never say a word get none."""
    seen = Seen()
    judge(seen, *hold_many(gate, 200, b"", b"", 1, HEAD_SECONDS + 8), HEAD_SECONDS, None)
    return seen


ROWS = [
    Row("slow-headers", "slow headers", slow_headers, 13),
    Row("slow-body", "slow body, with a key", slow_body, 6),
    Row("slow-read", "slow read", slow_read, 12),
    Row("silent", "silent client, plain HTTP", silent, 8),
    Row("many-slow", "4 000 slow connections", many_slow, 12),
]
