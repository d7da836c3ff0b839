"""The process itself under attack: out of files; asked to end in the middle of it all."""

import json
import os
import re
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

from gateway import Gateway, read_all, until
from row import Row, Seen

FILES_LEFT = 200


def out_of_files(gate: Gateway, seconds: float) -> Seen:
    """Takes the files away from a running gateway (as `ulimit -n` would), then floods it."""
    seen = Seen()
    used = len(list(Path(f"/proc/{gate.pid}/fd").iterdir()))
    limits = resource.prlimit(gate.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(gate.pid, resource.RLIMIT_NOFILE, (used + FILES_LEFT, limits[1]))
    try:
        with gate.connect() as standing:
            standing.sendall(gate.request())
            seen.expect(standing.recv(4096).startswith(b"HTTP/1.1 200"), "the standing client's first answer")
            # Not from the standing clients' address: nobody's limit but the files'.
            flood = [gate.connect(source=f"127.0.2.{1 + number % 8}") for number in range(FILES_LEFT * 2)]
            time.sleep(0.5)
            busy, began = gate.cpu_seconds(), time.monotonic()
            answered = 0
            while time.monotonic() - began < 3:
                standing.sendall(gate.request())
                answered += standing.recv(4096).startswith(b"HTTP/1.1 200")
                time.sleep(0.1)
            share = (gate.cpu_seconds() - busy) / (time.monotonic() - began)
            seen.expect(share < 0.5, f"{share:.0%} of a core without work: it spins")
            seen.expect(answered > 5, f"{answered} answers to the standing client")
            for client in flood:
                client.close()
    finally:
        resource.prlimit(gate.pid, resource.RLIMIT_NOFILE, limits)
    recovered = until(gate.verifies, 10)
    seen.expect(recovered is not None, "no new client is served afterwards")
    errors = gate.metrics().get("peselgate_accept_errors_total", 0)
    seen.expect(errors > 0, "accept never failed: nothing was tried")
    seen.defence = f"{errors:.0f} failed accepts backed off, {share:.0%} of a core, standing client answered {answered} times"
    if recovered is not None:
        seen.defence += f", new ones again after {recovered:.1f} s"
    return seen


def ask_until_the_end(gate: Gateway, told: list[str], began: threading.Event) -> None:
    identifier = re.compile(rb'"verification_id":"([0-9a-f-]{36})"')
    try:
        with gate.connect() as client:
            while True:
                client.sendall(gate.request())
                answer = client.recv(8192)
                if not answer:
                    return
                if answer.startswith(b"HTTP/1.1 200"):
                    told.append(identifier.search(answer).group(1).decode())
                    began.set()
    except OSError:
        pass


def terminated(gate: Gateway, seconds: float) -> Seen:
    """SIGTERM in the middle of a load: whatever was answered is on record."""
    seen, told = Seen(), []
    began = threading.Event()
    clients = [threading.Thread(target=ask_until_the_end, args=(gate, told, began)) for _ in range(16)]
    for client in clients:
        client.start()
    seen.expect(began.wait(10), "no answer at all")
    time.sleep(2)
    os.kill(gate.pid, signal.SIGTERM)  # Popen would ask for a child that is not ours
    asked = time.monotonic()
    for client in clients:
        client.join()
    took = time.monotonic() - asked
    seen.expect(took < 11, f"the drain took {took:.1f} s")
    # The parent waits for the process; its lock on the directory is gone with it.
    until(lambda: not Path(f"/proc/{gate.pid}").exists() or zombie(gate.pid), 20)
    command = [gate.place.program, "audit", "dump", "--data-dir", str(gate.data)]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=120)
    on_record = {json.loads(line)["verification_id"] for line in dumped.stdout.splitlines()}
    lost = [one for one in told if one not in on_record]
    seen.expect(dumped.returncode == 0, f"audit dump: {dumped.stderr[-200:]}")
    seen.expect(bool(told) and not lost, f"{len(lost)} of {len(told)} answers are not on record")
    seen.expect(len(set(told)) == len(told), "an identifier was given twice")
    seen.defence = f"drained in {took:.1f} s; all {len(told)} answers on record"
    return seen


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


ROWS = [
    Row("files", "out of file descriptors", out_of_files, 6, unhurt=False),
    Row("sigterm", "SIGTERM under load", terminated, load=False, ends=True),
]
