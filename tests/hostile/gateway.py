"""A gateway under attack: one `peselgate demo` process, pinned to the server's core."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

READY = re.compile(r"^ready: verification (https?)://([\d.]+):(\d+), admin (\S+), operations (\S+)", re.M)
FILES_MAX = 16_384
# Everything is on the loopback, whatever proxies the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# README, Limits: new connections of an address over TLS or HTTP/2.
TURNS_AT_ONCE = 256
TURNS_PER_SECOND = 200


def turns_within(seconds: float) -> float:
    """Connections of one address that may be served in this time; a second more for a busy machine."""
    return TURNS_AT_ONCE + TURNS_PER_SECOND * (seconds + 1)


@dataclass(frozen=True)
class Place:
    """Where programs are, and which cores servers and clients get."""

    program: str
    work: Path
    server_core: int
    client_core: int

    def on_clients(self, command: list[str]) -> list[str]:
        return ["taskset", "-c", str(self.client_core), *command]

    def busy_seconds(self) -> tuple[float, float]:
        """What the server's core and the clients' have worked since the machine started."""
        return core_seconds(self.server_core), core_seconds(self.client_core)


class NotStarted(Exception):
    """The gateway did not start: there is nothing to attack."""


class Gateway:
    """A running demo, in a data directory of its own."""

    def __init__(self, place: Place, tls: bool = False):
        self.place = place
        self.tls = tls
        self.data = place.work / "demo"
        if self.data.exists():  # of the row before: its trail is millions of answers long
            shutil.rmtree(self.data)
        self.out = place.work / "out"
        self.err = place.work / "err"
        command = [place.program, "demo", "--data-dir", str(self.data), "--reserved", "100000", "--threads", "1"]
        for plane in ("--listen", "--admin-listen", "--ops-listen"):
            command += [plane, "127.0.0.1:0"]
        if tls:
            command.append("--tls")
        command = ["taskset", "-c", str(place.server_core), *command]
        try:
            with open(self.out, "w") as out, open(self.err, "w") as err:
                self.process = subprocess.Popen(command, stdout=out, stderr=err, preexec_fn=many_files)
        except OSError as error:
            raise NotStarted(str(error)) from error
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        self.key = (self.data / "demo-key").read_text().strip()
        self.token = (self.data / "demo-admin-token").read_text().strip()
        lines = (self.data / "free.csv").read_text().split()
        self.pesel = lines[1]

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + 120
        while not (found := READY.search(self.out.read_text())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise NotStarted(f"the gateway did not start: {self.err.read_text()[-2000:]}")
            time.sleep(0.02)
        scheme, host, port, self.admin, self.ops = found.groups()
        self.url = f"{scheme}://{host}:{port}"
        self.address = (host, int(port))

    @property
    def pid(self) -> int:
        return self.process.pid

    def body(self) -> bytes:
        return json.dumps({"pesel": self.pesel}).encode()

    def request(self, *more: str, body: bytes | None = None, key: str | None = None) -> bytes:
        """A good `POST /v1/verify`, with further head lines."""
        body = self.body() if body is None else body
        lines = ["POST /v1/verify HTTP/1.1", "host: g", f"authorization: Bearer {key or self.key}"]
        lines += ["content-type: application/json", f"content-length: {len(body)}", *more]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def connect(self, source: str = "127.0.0.1", timeout: float = 5) -> socket.socket:
        return socket.create_connection(self.address, timeout=timeout, source_address=(source, 0))

    def memory_kib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self) -> dict[str, float]:
        with DIRECT.open(f"{self.ops}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
        return {name: float(value) for name, value in lines}

    def panics(self) -> int:
        told = self.err.read_text(errors="replace")
        return int(self.metrics().get("peselgate_handler_panics_total", 0)) + told.count("panicked")

    def ask_admin(self, path: str, asked: dict) -> dict:
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        request = urllib.request.Request(self.admin + path, json.dumps(asked).encode(), headers)
        with DIRECT.open(request, timeout=10) as answer:
            return json.load(answer)

    def issue(self, addresses: list[str], per_second: int = 1_000_000) -> str:
        """A further key, with limits of its own."""
        limits = {"per_second": per_second, "burst": per_second, "per_day": 1_000_000_000}
        asked = {"institution": {"name": "Bank"}, "system": "s", "addresses": addresses, "limits": limits}
        return self.ask_admin("/admin/v1/keys", asked)["key"]

    def verifies(self) -> bool:
        """Whether a new client gets a good answer (plain HTTP only)."""
        try:
            with self.connect() as client:
                client.sendall(self.request("connection: close"))
                return read_all(client).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def core_seconds(core: int) -> float:
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, line.split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def ticks() -> tuple[int, int]:
    """Processor time that was asked for since the machine started, and what of it other guests of the host took."""
    line = Path("/proc/stat").read_text().splitlines()[0]
    user, nice, system, _idle, _iowait, irq, softirq, stolen, *_ = map(int, line.split()[1:])
    return user + nice + system + irq + softirq + stolen, stolen


def many_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(FILES_MAX, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))


def read_all(client: socket.socket) -> bytes:
    """Everything until the other end closes, resets or falls silent."""
    got = b""
    try:
        while piece := client.recv(65536):
            got += piece
    except OSError:
        pass
    return got


def until(what, seconds: float, every: float = 0.05) -> float | None:
    """How long until `what()` held; `None` when it did not in time."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if what():
            return time.monotonic() - began
        time.sleep(every)
    return None
