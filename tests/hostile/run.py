"""Runs the rows that are asked for and prints the table; `tests/hostile.sh` is the way in."""

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import encrypted
import floods
import gateway
import keys
import overload
import process
import raw
import row
import slow

ROWS = [
    *slow.ROWS, *floods.ROWS, *raw.ROWS, *keys.ROWS, *encrypted.ROWS, *process.ROWS, *overload.ROWS,
]  # fmt: skip

# Exit statuses beside 0.
FAILED, NOTHING_TRIED, NOT_TRIED = 1, 2, 3

NOTE = """
Tried by `cargo test` instead and not again here: malformed heads and pipelining
(tests/gateway/heads.rs), a deactivated key on an open connection (http2.rs), one answer
for every wrong key and guessers slowed down alone (keys.rs), failed and full disks
(faults.rs), keys and paths of one plane on another (keys.rs), numbers and keys nowhere in
logs, metrics or answers (canaries.rs), kill -9 under load (durability.rs,
kills.rs), TLS 1.2 (tls.rs)."""


class Unable(Exception):
    """Nothing can be tried."""


def wanted(names: list[str]) -> list[row.Row]:
    known = {each.name: each for each in ROWS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Unable(f"no such row: {', '.join(unknown)}; there are: {' '.join(known)}")
    return [known[name] for name in names] or ROWS


def main() -> int:
    program, names = os.path.abspath(sys.argv[1]), sys.argv[2:]
    rows = wanted(names)
    if not shutil.which("wrk"):
        raise Unable("wrk is missing")
    cores = sorted(os.sched_getaffinity(0))
    server_core, client_core = cores[0], cores[-1]
    os.sched_setaffinity(0, {client_core})
    gateway.many_files()
    with tempfile.TemporaryDirectory(prefix="hostile.", ignore_cleanup_errors=True) as work:
        place = gateway.Place(program, Path(work), server_core, client_core)
        named = attack(rows, place)
    print(NOTE if not names else "")
    failed, not_tried = named[row.Verdict.FAILED], named[row.Verdict.NOT_TRIED]
    if failed:
        print(f"failed: {' '.join(failed)}", file=sys.stderr)
    if not_tried:
        print(f"not tried: {' '.join(not_tried)}", file=sys.stderr)
    return FAILED if failed else NOT_TRIED if not_tried else 0


def attack(rows: list[row.Row], place: gateway.Place) -> dict[row.Verdict, list[str]]:
    """Prints the table; the rows' names by what became of them."""
    server_core, client_core = place.server_core, place.client_core
    print(f"{time.strftime('%F')}, server on core {server_core}, attackers and good clients on core {client_core};")
    print("good clients: wrk, 16 connections, closed loop. Ratios are told, not judged.\n")
    print(row.HEADER, flush=True)
    before = gateway.ticks()
    named: dict[row.Verdict, list[str]] = {verdict: [] for verdict in row.Verdict}
    for each in rows:
        print(f"{each.name} …", file=sys.stderr, flush=True)
        line, verdict = row.run(each, place)
        print(line, flush=True)
        named[verdict].append(each.name)
    asked, stolen = (then - now for now, then in zip(before, gateway.ticks()))
    print(f"\nOf the processor time asked for meanwhile, other guests of the host took {100 * stolen / asked:.0f} %.")
    return named


def asked_to_end(number: int, _frame) -> None:
    # The gateway, the attacker and the directory go as after any other end.
    raise SystemExit(128 + number)


if __name__ == "__main__":
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, asked_to_end)
    try:
        status = main()
    except (Unable, gateway.NotStarted) as error:
        print(error, file=sys.stderr)
        status = NOTHING_TRIED
    except Exception:  # of this program: no attack has met anything
        traceback.print_exc()
        status = NOTHING_TRIED
    sys.exit(status)
