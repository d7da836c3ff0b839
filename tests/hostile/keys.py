"""Keys that are well-formed and wrong."""

import asyncio
import itertools
import os
import re
import time
from collections import Counter

from gateway import Gateway
from row import Row, Seen

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
WRONG_KEYS = 100_000
ADDRESSES = [f"127.0.1.{number}" for number in range(1, 17)]
PIPELINED = 50


def crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc32c_table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def base32(data: bytes, chars: int) -> str:
    number = int.from_bytes(data, "big") << 5
    bits = len(data) * 8 + 5
    return "".join(ALPHABET[number >> bits - 5 * (place + 1) & 31] for place in range(chars))


def wrong_key(known: str | None = None) -> str:
    """A key of the right form and checksum that was never issued; `known`: under this id."""
    chars = os.urandom(62)
    text = "".join(ALPHABET[char & 31] for char in chars)
    # The last character of 256 bits in base32 carries one bit of them.
    text = text[:61] + ALPHABET[(chars[61] & 1) << 4]
    start = f"pg_test_{known or text[:10]}_{text[10:]}"
    return start + base32(crc32c(start.encode()).to_bytes(4, "big"), 7)


def self_test(gate: Gateway) -> None:
    """Our checksum is the gateway's: the demo's own key has it."""
    start, checksum = gate.key[:-7], gate.key[-7:]
    assert base32(crc32c(start.encode()).to_bytes(4, "big"), 7) == checksum


async def guess(gate: Gateway, source: str, keys, counts: Counter, until: float) -> None:
    status = re.compile(rb"HTTP/1\.1 (\d{3}) ")
    while time.monotonic() < until:
        wave = list(itertools.islice(keys, PIPELINED))
        if not wave:
            return
        data = "".join(f"GET /v1/limits HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\n\r\n" for key in wave)
        reader, writer = await asyncio.open_connection(*gate.address, local_addr=(source, 0))
        writer.write(data.encode())
        writer.write_eof()
        told = await reader.read(-1)
        writer.close()
        found = status.findall(told)
        counts.update(found)
        counts["unanswered"] += len(wave) - len(found)


def wrong_keys(gate: Gateway, seconds: float) -> Seen:
    self_test(gate)
    known = gate.key.split("_")[2]
    keys = iter([wrong_key(known if number % 4 == 0 else None) for number in range(WRONG_KEYS)])
    counts: Counter = Counter()

    async def all_of_them():
        until = time.monotonic() + 40
        await asyncio.gather(*(guess(gate, source, keys, counts, until) for source in ADDRESSES))

    began = time.monotonic()
    asyncio.run(all_of_them())
    took = time.monotonic() - began
    unanswered = counts.pop("unanswered")
    seen = Seen()
    seen.expect(set(counts) <= {b"401", b"429"}, f"answers {dict(counts)}")
    seen.expect(counts[b"429"] > 0, "no guesser was slowed down")
    seen.expect(unanswered == 0, f"{unanswered} guesses got no answer")
    seen.expect(gate.verifies(), "the good key is refused after it")
    told = ", ".join(f"{status.decode()} {count}" for status, count in counts.most_common())
    total = sum(counts.values())
    seen.defence = f"{total} keys of right form from {len(ADDRESSES)} addresses in {took:.1f} s: {told}"
    return seen


ROWS = [Row("wrong-keys", "100 000 wrong keys with a right checksum", wrong_keys, 10)]
