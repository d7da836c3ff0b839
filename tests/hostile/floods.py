"""HTTP/2 floods: each connection floods until it is ended, then the next one comes."""

import itertools
import select
import struct
import time
from collections import Counter
from collections.abc import Iterator

import frames
from frames import ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS
from frames import WINDOW_UPDATE, Http2, frame
from gateway import Gateway, turns_within
from row import QUICK_ROUNDS, Row, Seen

KEEP_ALIVE_SECONDS = 30
BATCH = 64


def streams() -> Iterator[int]:
    return itertools.count(1, 2)


def rapid_reset(gate: Gateway) -> Iterator[bytes]:
    """CVE-2023-44487: open a stream, cancel it at once."""
    block = frames.head("POST", "/v1/verify", gate.key)
    for stream in streams():
        yield frame(HEADERS, END_HEADERS, stream, block) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))


def made_you_reset(gate: Gateway) -> Iterator[bytes]:
    """CVE-2025-8671: make the server reset the stream, by a window beyond its bound."""
    block = frames.head("POST", "/v1/verify", gate.key)
    for stream in streams():
        yield frame(HEADERS, END_HEADERS, stream, block) + frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0x7FFFFFFF))


def continuation(gate: Gateway) -> Iterator[bytes]:
    """CVE-2024-27316: a head that never ends."""
    yield frame(HEADERS, END_STREAM, 1, frames.head("GET", "/v1/status"))
    while True:
        yield frame(CONTINUATION, 0, 1, b"\x00" + frames.text("x-a") + frames.text("b" * 100))


def empty_continuation(gate: Gateway) -> Iterator[bytes]:
    """The same with frames of nothing."""
    yield frame(HEADERS, END_STREAM, 1, frames.head("GET", "/v1/status"))
    while True:
        yield frame(CONTINUATION, 0, 1)


def empty_data(gate: Gateway) -> Iterator[bytes]:
    """CVE-2019-9518: a body of empty frames."""
    for stream in streams():
        yield frame(HEADERS, END_HEADERS, stream, frames.head("POST", "/v1/verify", gate.key))
        for _ in range(2000):
            yield frame(DATA, 0, stream)


def ping(gate: Gateway) -> Iterator[bytes]:
    """CVE-2019-9512."""
    for number in itertools.count():
        yield frame(PING, 0, 0, struct.pack(">Q", number))


def settings(gate: Gateway) -> Iterator[bytes]:
    """CVE-2019-9515: settings that must all be acknowledged."""
    for number in itertools.count():
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535 + number % 1000))


def stray_ack(gate: Gateway) -> Iterator[bytes]:
    """Acknowledgements of nothing, and windows that only grow."""
    while True:
        yield frame(PING, ACK, 0, bytes(8)) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))


def flood(gate: Gateway, make, seconds: float) -> tuple[Counter, int, int]:
    """How the connections ended, how many there were, how many bytes were sent."""
    ends: Counter = Counter()
    sent = count = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        count += 1
        link = Http2(gate.connect())
        source = make(gate)
        left = b""
        while not link.ended and link.goaway is None and time.monotonic() < until:
            left = left or b"".join(itertools.islice(source, BATCH))
            done = link.send(left)
            if done > 0:
                sent += done
                left = left[done:]
            link.read()
            if done == 0:
                select.select([link.client], [link.client], [], 0.05)
        if link.goaway is None and not link.ended:
            ends["lived on"] += 1
        else:
            # The last word may still be on its way.
            linger = time.monotonic() + 0.2
            while link.goaway is None and not link.ended and time.monotonic() < linger:
                link.read()
            ends["closed" if link.goaway is None else f"GOAWAY {frames.ERRORS[link.goaway]}"] += 1
        link.close()
    return ends, count, sent


def row(name: str, title: str, make) -> Row:
    def attack(gate: Gateway, seconds: float) -> Seen:
        ends, count, sent = flood(gate, make, seconds)
        told = ", ".join(f"{end} {times}" for end, times in ends.most_common())
        seen = Seen(f"{count} connections, {sent / 1e6:.1f} MB: {told}")
        seen.expect(count <= turns_within(seconds), f"{count} connections were served")
        # The very last one is ended by the clock.
        seen.expect(ends["lived on"] <= 1 < count, "the flood was not ended")
        return seen

    return Row(name, title, attack, 4, rounds=QUICK_ROUNDS)


def torn(gate: Gateway, seconds: float) -> Seen:
    """Frames cut off in the middle: closed by the client, or held open for ever."""
    whole = frame(HEADERS, END_HEADERS | END_STREAM, 1, frames.head("GET", "/v1/status"))
    lies = [
        frame(HEADERS, END_HEADERS, 1, b"\xff" * 40),  # no HPACK
        b"\xff\xff\xff" + whole[3:],  # a length beyond the limit
        frame(DATA, 0, 0, b"x"),  # data without a stream
        frame(SETTINGS, 0, 0, b"x" * 5),  # a length that none has
        frame(PING, 0, 0, b"x" * 7),
        frame(RST_STREAM, 0, 99, struct.pack(">I", 8)),  # a stream that never was
        frame(HEADERS, END_HEADERS, 2, frames.head("GET", "/v1/status")),  # an even one
    ]
    seen = Seen()
    held = [gate.connect() for _ in range(20)]
    began = time.monotonic()
    for place, client in enumerate(held):
        client.sendall(frames.PREFACE + frame(SETTINGS, 0, 0) + whole[: 1 + place % (len(whole) - 1)])
    for round_ in range(len(whole) * 4):
        with gate.connect() as client:
            client.sendall(frames.PREFACE + frame(SETTINGS, 0, 0) + whole[: round_ % len(whole)])
    unanswered = 0
    for lie in lies:
        link = Http2(gate.connect())
        link.send(lie)
        deadline = time.monotonic() + 5
        while link.goaway is None and not link.ended and time.monotonic() < deadline:
            select.select([link.client], [], [], 0.1)
            link.read()
        unanswered += link.goaway is None and not link.ended
        link.close()
    seen.expect(unanswered == 0, f"{unanswered} of {len(lies)} impossible frames were put up with")
    for client in held:
        client.settimeout(KEEP_ALIVE_SECONDS + 5)
        try:
            while client.recv(4096):
                pass
        except TimeoutError:
            seen.expect(False, "half a frame was held for more than the keep-alive's time")
            break
        except OSError:
            pass
    waited = time.monotonic() - began
    seen.defence = f"{len(lies)} impossible frames: GOAWAY; half frames cut after {waited:.0f} s (keep-alive)"
    return seen


ROWS = [
    row("rapid-reset", "HTTP/2 rapid reset", rapid_reset),
    row("made-you-reset", "HTTP/2 made-you-reset", made_you_reset),
    row("continuation", "HTTP/2 CONTINUATION flood", continuation),
    row("empty-continuation", "HTTP/2 flood of empty CONTINUATION", empty_continuation),
    row("empty-data", "HTTP/2 flood of empty DATA", empty_data),
    row("ping", "HTTP/2 PING flood", ping),
    row("settings", "HTTP/2 SETTINGS flood", settings),
    row("stray-ack", "HTTP/2 flood of stray acknowledgements", stray_ack),
    Row("torn", "HTTP/2 torn and impossible frames", torn, 6),
]
