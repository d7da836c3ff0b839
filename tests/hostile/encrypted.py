"""TLS: silence before, in the middle of and after a handshake; storms of them; what scanners say."""

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time

import good
from gateway import Gateway, turns_within
from row import Missing, Row, Seen

HANDSHAKE_SECONDS = 5
HEAD_SECONDS = 10
LATE_SECONDS = 2
# More than may shake hands at once, so that they would fill every place.
HALF_OPEN = 600
NEWCOMER = "127.0.0.9"


def context(gate: Gateway, alpn: list[str]) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(gate.data / "demo-ca.pem"))
    made.check_hostname = False
    made.set_alpn_protocols(alpn)
    return made


def lives(client: socket.socket, limit: float) -> float:
    """How long the gateway keeps a connection that says nothing more."""
    began = time.monotonic()
    client.settimeout(limit)
    try:
        while client.recv(4096):
            pass
    except OSError:
        pass
    return time.monotonic() - began


class Newcomers:
    """Good clients of another address that come anew all the while: each must get through its handshake."""

    def __init__(self, gate: Gateway):
        self.gate = gate
        self.context = context(gate, ["http/1.1"])
        self.times: list[float] = []
        self.failed: list[str] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._come)

    def __enter__(self) -> "Newcomers":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        self.thread.join()

    def _come(self) -> None:
        while not self.over.wait(0.1):
            began = time.monotonic()
            try:
                with self.gate.connect(NEWCOMER, timeout=6) as plain, self.context.wrap_socket(plain) as client:
                    client.sendall(self.gate.request("connection: close"))
                    if not client.recv(64).startswith(b"HTTP/1.1 200"):
                        self.failed.append("no 200")
            except OSError as error:
                self.failed.append(str(error))
            self.times.append(time.monotonic() - began)

    def judge(self, seen: Seen) -> None:
        count, failed = len(self.times), len(self.failed)
        seen.expect(count > 0 and failed == 0, f"{failed} of {count} newcomers failed: {self.failed[:1]}")
        slowest = max(self.times, default=0) * 1000
        seen.figures = f"{count} newcomers meanwhile, the slowest in {slowest:.0f} ms"


def half_open(name: str, title: str, prepare) -> Row:
    """`prepare` takes a raw connection to where it falls silent."""

    def attack(gate: Gateway, seconds: float) -> Seen:
        seen = Seen()
        with Newcomers(gate) as newcomers:
            clients, began = [], []
            for _ in range(HALF_OPEN):
                client = gate.connect(timeout=20)
                began.append(time.monotonic())
                prepare(gate, client)
                clients.append(client)
            longest = 0.0
            for client, since in zip(clients, began):
                lives(client, HANDSHAKE_SECONDS + 10)
                longest = max(longest, time.monotonic() - since)
                client.close()
        limit = HANDSHAKE_SECONDS + LATE_SECONDS
        seen.expect(longest <= limit, f"held for {longest:.1f} s")
        seen.defence = f"all {HALF_OPEN} cut after at most {longest:.1f} s"
        newcomers.judge(seen)
        return seen

    return Row(name, title, attack, 7, tls=True)


def say_nothing(gate: Gateway, client: socket.socket) -> None:
    pass


def client_hello(gate: Gateway) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    shaking = context(gate, ["h2", "http/1.1"]).wrap_bio(incoming, outgoing)
    try:
        shaking.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def half_a_hello(gate: Gateway, client: socket.socket) -> None:
    client.sendall(client_hello(gate)[:100])


def no_finish(gate: Gateway, client: socket.socket) -> None:
    client.sendall(client_hello(gate))


def silent_after(gate: Gateway, seconds: float) -> Seen:
    """The handshake is done, and then nothing: in either protocol."""
    seen = Seen()
    told = []
    clients = []
    for protocol in ("http/1.1", "h2"):
        shaken = context(gate, [protocol])
        for _ in range(20):
            clients.append((protocol, shaken.wrap_socket(gate.connect(timeout=10))))
    began = time.monotonic()
    for protocol in ("http/1.1", "h2"):
        for _, client in (pair for pair in clients if pair[0] == protocol):
            lives(client, max(0.1, HEAD_SECONDS + LATE_SECONDS + 1 - (time.monotonic() - began)))
        took = time.monotonic() - began
        seen.expect(took <= HEAD_SECONDS + LATE_SECONDS, f"{protocol}: still held after {took:.1f} s")
        told.append(f"{protocol} cut after {took:.1f} s")
    for _, client in clients:
        client.close()
    seen.defence = "; ".join(told)
    return seen


def storm(gate: Gateway, seconds: float) -> Seen:
    """New connections as fast as they go, one request each."""
    seen = Seen()
    with Newcomers(gate) as newcomers:
        load = good.run(gate, seconds - 1, connections=64, close=True)
    newcomers.judge(seen)
    allowed = turns_within(seconds - 1)
    done = load.goodput * (seconds - 1)
    seen.expect(done <= allowed, f"{done:.0f} handshakes of one address where {allowed:.0f} are allowed")
    seen.expect(load.goodput > 0 and load.refused == 0, f"{load.refused} refused")
    seen.defence = f"{load.goodput:.0f} handshakes/s from 64 connections"
    return seen


def scan_ssl(gate: Gateway, seconds: float) -> Seen:
    if not shutil.which("sslscan"):
        raise Missing("sslscan is missing")
    target = "{}:{}".format(*gate.address)
    told = subprocess.run(["sslscan", "--no-colour", target], capture_output=True, text=True, timeout=90).stdout
    enabled = [line.split()[0] for line in told.splitlines() if line.strip().endswith("enabled")]
    seen = Seen()
    protocols = [name for name in enabled if name.startswith(("SSLv", "TLSv"))]
    seen.expect(protocols == ["TLSv1.3"], f"protocols {protocols}")
    ciphers = [line for line in told.splitlines() if line.startswith(("Preferred", "Accepted"))]
    weak = [line for line in ciphers if "TLSv1.3" not in line or "TLS_" not in line]
    seen.expect(bool(ciphers) and not weak, f"ciphers {weak}")
    for bad in ("vulnerable to heartbleed", "Session renegotiation supported", "Insecure"):
        hits = [line for line in told.splitlines() if bad in line and "not " + bad not in line]
        seen.expect(not hits, f"{hits}")
    seen.defence = f"sslscan: {', '.join(protocols)} alone, {len(ciphers)} ciphers"
    return seen


def scan_testssl(gate: Gateway, seconds: float) -> Seen:
    """Protocols, ciphers, forward secrecy and known weaknesses; the certificate is the demo's own."""
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if not program:
        raise Missing("testssl.sh is missing")
    found = gate.place.work / "testssl.json"
    found.unlink(missing_ok=True)
    target = "{}:{}".format(*gate.address)
    command = [program, "--quiet", "--warnings", "off", "--color", "0", "--jsonfile", str(found)]
    command += ["-p", "-s", "-f", "-H", "-I", "-R", "-C", "-B", "-O", "-F", "-L", "-A", target]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=150)
    entries = json.loads(found.read_text())
    bad = [
        f"{entry['id']}: {entry['finding']}"
        for entry in entries
        if entry["severity"] not in ("OK", "INFO", "DEBUG") and not entry["id"].startswith(("cert", "scanTime"))
    ]
    seen = Seen()
    seen.expect(len(entries) > 10, f"only {len(entries)} entries")
    seen.expect(not bad, f"{bad}")
    seen.defence = f"testssl.sh: {len(entries)} entries, {len(bad)} findings (the demo's own certificate aside)"
    return seen


ROWS = [
    half_open("tls-silent", "silent client before TLS", say_nothing),
    half_open("tls-half-hello", "half a ClientHello", half_a_hello),
    half_open("tls-half-open", "half-open TLS: no Finished", no_finish),
    Row("tls-silent-after", "silent client after TLS", silent_after, 8, tls=True),
    Row("tls-storm", "handshake storm", storm, 6, tls=True),
    Row("sslscan", "weak TLS: sslscan", scan_ssl, tls=True, load=False),
    Row("testssl", "weak TLS: testssl.sh", scan_testssl, tls=True, load=False),
]
