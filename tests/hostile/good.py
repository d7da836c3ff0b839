"""Well-behaved clients: wrk, a fixed number of connections, closed loop."""

import json
import os
import subprocess
import time
from dataclasses import dataclass

from gateway import Gateway

CONNECTIONS = 16


@dataclass(frozen=True)
class Load:
    goodput: float  # good answers a second
    p99_ms: float
    refused: int
    broken: int


@dataclass(frozen=True)
class Measured:
    """A load, and how busy the two cores were with all that went on meanwhile (0 to 1)."""

    load: Load
    server: float
    clients: float


def run(gate: Gateway, seconds: float, connections: int = CONNECTIONS, close: bool = False) -> Load:
    """Loads the gateway; `close`: one request a connection."""
    return finish(start(gate, seconds, connections, close))


def measure(gate: Gateway, seconds: float) -> Measured:
    began, before = time.monotonic(), gate.place.busy_seconds()
    load = run(gate, seconds)
    took, after = time.monotonic() - began, gate.place.busy_seconds()
    return Measured(load, *((then - now) / took for now, then in zip(before, after)))


def start(gate: Gateway, seconds: float, connections: int = CONNECTIONS, close: bool = False) -> subprocess.Popen:
    environment = {
        **os.environ,
        "NUMBERS": str(gate.data / "reserved.csv"),
        "KEY_FILE": str(gate.data / "demo-key"),
        "CLOSE": "1" if close else "0",
    }
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "5s"]
    command += ["-s", "tests/hostile/good.lua", f"{gate.url}/v1/verify"]
    return subprocess.Popen(
        gate.place.on_clients(command), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(load: subprocess.Popen) -> Load:
    try:
        told = load.communicate()[0]
    except BaseException:  # asked to end: nobody waits for it any more
        load.kill()
        raise
    lines = [line for line in told.splitlines() if line.startswith("result ")]
    if not lines:
        raise RuntimeError(f"wrk says: {told}")
    found = json.loads(lines[0].removeprefix("result "))
    good = max(0, found["requests"] - found["refused"])
    return Load(good / found["seconds"], found["p99_ms"], found["refused"], found["broken"])
