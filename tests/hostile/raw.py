"""Raw requests with an answer each: ambiguous framing, too much of anything, forged origins."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

from gateway import Gateway, read_all, until
from row import QUICK_ROUNDS, Missing, Row, Seen

SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nhost: g\r\n\r\n"


def answers(gate: Gateway, data: bytes, patience: float = 4) -> tuple[list[int], bytes]:
    """The statuses of all answers until the gateway closes (we say at our end that nothing follows)."""
    with gate.connect(timeout=patience) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it may close while we still send
        told = read_all(client)
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", told)], told


def framings(gate: Gateway) -> list[tuple[str, bytes]]:
    """One message each that two readers could end at two places."""
    body = gate.body()
    length = len(body)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (length, body)
    fields: list[tuple[str, list[str], bytes]] = [
        ("CL.TE", [f"content-length: {length}", "transfer-encoding: chunked"], b"0\r\n\r\n"),
        ("TE.CL", ["transfer-encoding: chunked", "content-length: 4"], chunked),
        ("CL.CL, unlike", [f"content-length: {length}", "content-length: 0"], body),
        ("CL list", [f"content-length: {length}, 0"], body),
        ("CL with a sign", [f"content-length: +{length}"], body),
        ("CL in hex", [f"content-length: 0x{length:x}"], body),
        ("CL with a NUL", [f"content-length: {length}\0"], body),
        ("CL, space before the colon", [f"content-length : {length}"], body),
        ("CL, tab before the colon", [f"content-length\t: {length}"], body),
        ("CL folded", [f"content-length:\r\n {length}"], body),
        ("TE.TE", ["transfer-encoding: chunked", "transfer-encoding: identity"], chunked),
        ("TE.TE, the other way round", ["transfer-encoding: identity", "transfer-encoding: chunked"], chunked),
        ("TE x", ["transfer-encoding: xchunked"], chunked),
        ("TE with a vertical tab", ["transfer-encoding: \x0bchunked"], chunked),
        ("TE folded", ["transfer-encoding:\r\n chunked"], chunked),
        ("TE, space before the colon", ["transfer-encoding : chunked"], chunked),
        ("TE after a bare LF", ["x: y\ntransfer-encoding: chunked"], chunked),
        ("TE, twice chunked", ["transfer-encoding: chunked, chunked"], chunked),
        ("chunk extension", ["transfer-encoding: chunked"], chunked.replace(b"\r\n{", b";a=b\r\n{")),
        ("chunk extension, bare LF", ["transfer-encoding: chunked"], chunked.replace(b"\r\n{", b";a\n{")),
        ("chunk size with a sign", ["transfer-encoding: chunked"], b"+" + chunked),
        ("chunk size in 0x", ["transfer-encoding: chunked"], b"0x" + chunked),
        ("chunk size beyond 64 bits", ["transfer-encoding: chunked"], b"f" * 17 + b"\r\n"),
        ("chunk, bare LF", ["transfer-encoding: chunked"], chunked.replace(b"\r\n", b"\n")),
        ("trailer named as a length", ["transfer-encoding: chunked"], chunked[:-2] + b"content-length: 9\r\n\r\n"),
        ("obs-fold", ["x: y\r\n\tz", f"content-length: {length}"], body),
        ("bare CR in a field", ["x: y\rz", f"content-length: {length}"], body),
        ("two hosts", ["host: other", f"content-length: {length}"], body),
    ]
    cases = []
    for kind in ("application/json", "application/x-ndjson"):
        path = "/v1/verify" if kind.endswith("/json") else "/v1/verify/batch"
        head = f"POST {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {gate.key}\r\ncontent-type: {kind}\r\n"
        for name, lines, rest in fields:
            cases.append((f"{name} ({path})", (head + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + rest))
    bare = b"POST /v1/verify HTTP/1.1\nhost: g\nauthorization: Bearer " + gate.key.encode()
    cases.append(("every line ends in LF", bare + b"\ncontent-length: %d\n\n" % length + body))
    old = gate.request().replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"content-length", b"transfer-encoding: chunked\r\nx")
    cases.append(("TE in HTTP/1.0", old.split(b"\r\n\r\n")[0] + b"\r\n\r\n" + chunked))
    get = b"GET /v1/status HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n" % len(SMUGGLED)
    cases.append(("GET with a body", get))
    return cases


# Odd, but nobody can doubt where the message ends; what follows is an honest second one.
CLEAR = ("obs-fold", "every line ends in LF", "two hosts")


def smuggling(gate: Gateway, seconds: float) -> Seen:
    """Whatever ends a message in doubt ends the connection: what follows is never answered."""
    seen = Seen()
    cases = framings(gate)
    refused = 0
    for name, data in cases:
        statuses, told = answers(gate, data + SMUGGLED)
        refused += bool(statuses) and statuses[0] == 400
        if len(statuses) > 1 and not name.startswith(CLEAR):
            seen.expect(False, f"{name}: {statuses}")
        # The second message is unknown to the gateway: only its 404 may ever show.
        seen.expect(200 not in statuses[1:], f"{name}: a smuggled request was answered 200")
    seen.defence = f"{len(cases)} messages, at most one answer to each; {refused} are 400 and the end"
    return seen


HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 3s
  timeout server 5s
frontend front
  bind unix@{socket}
  default_backend gateway
backend gateway
  http-reuse always
  server gateway {host}:{port}
"""

NGINX = """
daemon off; pid {socket}.pid; error_log /dev/null; user root;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {work}; proxy_temp_path {work}; fastcgi_temp_path {work};
  uwsgi_temp_path {work}; scgi_temp_path {work}; keepalive_timeout 3; client_body_timeout 3;
  upstream gateway {{ server {host}:{port}; keepalive 4; }}
  server {{
    listen unix:{socket};
    location / {{
      proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header connection ""; proxy_next_upstream off;
    }}
  }}
}}
"""


def behind(name: str, command: list[str], text: str):
    """The same table through a proxy that reuses its connections to the gateway.

    Nobody answers for the proxy's own leniency; but whatever it passes on as one
    message the gateway must read as one: the 404 of the smuggled request, counted
    by the gateway, must each have been answered to the one who sent it.
    """

    def attack(gate: Gateway, seconds: float) -> Seen:
        if not (program := shutil.which(command[0], path=os.environ["PATH"] + ":/usr/sbin")):
            raise Missing(f"{command[0]} is missing")
        work, (host, port) = gate.place.work, gate.address
        at = work / f"{name}.sock"
        at.unlink(missing_ok=True)  # of the round before: it shows when this one listens
        config = work / f"{name}.conf"
        config.write_text(text.format(socket=at, host=host, port=port, work=work / "tmp"))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        proxy = subprocess.Popen([program, *command[1:], str(config)], **quiet)
        try:
            return through(gate, name, at)
        finally:
            proxy.terminate()
            proxy.wait()

    return attack


def through(gate: Gateway, name: str, at: Path) -> Seen:
    def not_found() -> float:
        return gate.metrics().get('peselgate_refusals_total{code="not-found"}', 0)

    def ask(data: bytes) -> list[int]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(6)
            client.connect(str(at))
            client.sendall(data)
            return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", read_all(client))]

    seen = Seen()
    seen.expect(until(at.exists, 10) is not None, f"{name} did not start")
    good = ask(gate.request("connection: close"))
    seen.expect(good == [200], f"a good request through {name}: {good}")
    cases, refused, second = framings(gate), 0, 0
    for case, data in cases:
        before = not_found()
        # Says that it is the last, so that a patient proxy ends with it.
        statuses = ask(data + SMUGGLED.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        refused += statuses[:1] == [400]
        second += 404 in statuses
        reached = not_found() - before
        seen.expect(reached <= statuses.count(404), f"{case}: {reached:.0f} smuggled, answers {statuses}")
        again = ask(gate.request("connection: close"))
        seen.expect(again == [200], f"after {case} the next one got {again}")
    seen.defence = f"{len(cases)} messages through {name}: {refused} refused, {second} honest second requests, none smuggled"
    return seen


def sizes(gate: Gateway) -> list[tuple[str, bytes, set[int]]]:
    number = gate.pesel
    post = lambda body, path="/v1/verify", *more: gate.request(*more, body=body).replace(b"/v1/verify", path.encode(), 1)
    batch = lambda count: json.dumps({"pesels": [number] * count}).encode()
    ndjson = lambda body: post(body, "/v1/verify/batch").replace(b"application/json", b"application/x-ndjson")
    get = lambda target, *fields: f"GET {target} HTTP/1.1\r\nhost: g\r\n{''.join(f + chr(13) + chr(10) for f in fields)}\r\n"
    deep = b'{"pesel":' + b"[" * 2000 + b"]" * 2000 + b"}"
    return [
        ("head of 9 KiB in one field", get("/v1/status", "x: " + "y" * 9216).encode(), {431}),
        ("head of 150 fields", get("/v1/status", *["x: y"] * 150).encode(), {431}),
        ("head of 1 MiB", get("/v1/status", *["x: " + "y" * 1000] * 1000).encode(), {431}),
        ("URI of 2 KiB", get("/v1/" + "x" * 2048).encode(), {414}),
        ("URI of 100 KiB", get("/v1/" + "x" * 102400).encode(), {414, 431}),
        ("body of 5 KiB", post(json.dumps({"pesel": number, "reference": "x" * 5000}).encode()), {413}),
        ("body said to be 1 TiB", gate.request(body=b"").replace(b"length: 0", b"length: 1099511627776"), {413}),
        ("batch of 1 001", post(batch(1001), "/v1/verify/batch"), {413}),
        ("batch of 70 KiB", post(b" " * 70_000 + batch(1), "/v1/verify/batch"), {413}),
        ("JSON 2 000 deep", post(deep[:4000]), {400}),
        ("JSON 30 000 deep", post(b"[" * 30000, "/v1/verify/batch"), {400}),
        ("doubled field", post(f'{{"pesel":"{number}","pesel":"{number}"}}'.encode()), {400}),
        ("doubled field, escaped", post(f'{{"pesel":"{number}","p\\u0065sel":"{number}"}}'.encode()), {400}),
        ("number for text", post(b'{"pesel":44851401353}'), {400}),
        ("reference of 65", post(json.dumps({"pesel": number, "reference": "ż" * 65}).encode()), {400}),
        ("no UTF-8", post(b'{"pesel":"\xff\xfe"}'), {400}),
        ("gzip", post(b"\x1f\x8b", "/v1/verify", "content-encoding: gzip"), {415}),
        ("line of 5 KiB", ndjson(b'"' + b"x" * 5000 + b'"\n'), {200}),
        ("batch of 1 000", post(batch(1000), "/v1/verify/batch"), {200}),
    ]


def oversized(gate: Gateway, seconds: float) -> Seen:
    seen = Seen()
    cases = sizes(gate)
    for name, data, wanted in cases:
        statuses, told = answers(gate, data)
        seen.expect(len(statuses) == 1 and statuses[0] in wanted, f"{name}: {statuses}, not {sorted(wanted)}")
        if name.startswith("line of"):
            seen.expect(b"malformed-request" in told, f"{name}: no error line")
        seen.expect(gate.pesel.encode() not in told or 200 in statuses, f"{name}: the answer repeats the number")
    seen.defence = f"{len(cases)} cases, each its 4xx"
    return seen


def origin(gate: Gateway, seconds: float) -> Seen:
    """A key for 10.0.0.0/8, asked from the loopback with every word that claims another origin."""
    key = gate.issue(["10.0.0.0/8"])
    claims = [
        "x-forwarded-for: 10.1.2.3", "x-forwarded-for: 10.1.2.3, 127.0.0.1", "forwarded: for=10.1.2.3",
        "x-real-ip: 10.1.2.3", "true-client-ip: 10.1.2.3", "cf-connecting-ip: 10.1.2.3", "x-client-ip: 10.1.2.3",
        "x-originating-ip: 10.1.2.3", "via: 1.1 10.1.2.3", "x-cluster-client-ip: 10.1.2.3",
    ]  # fmt: skip
    seen = Seen()
    for claim in claims:
        statuses, told = answers(gate, gate.request(claim, "connection: close", key=key))
        seen.expect(statuses == [403] and b"address-not-allowed" in told, f"{claim}: {statuses}")
        seen.expect(b"10.1.2.3" not in told, f"{claim}: the claim was believed")
    # From anybody at all, a PROXY header is a word out of place: never a 200.
    signature = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x01\x02\x03\x7f\0\0\x01\0\x01\0\x02"
    for name, header in [("v1", b"PROXY TCP4 10.1.2.3 127.0.0.1 1 2\r\n"), ("v2", signature)]:
        statuses, told = answers(gate, header + gate.request("connection: close", key=key))
        seen.expect(200 not in statuses and b"10.1.2.3" not in told, f"PROXY {name}: {statuses}")
        seen.expect(len(statuses) <= 1, f"PROXY {name}: {statuses}")
    seen.defence = f"{len(claims)} fields: 403 with the socket's address; PROXY v1 and v2 from nobody listed: refused"
    return seen


def again_and_again(table):
    """The table once for its verdict, then on and on as traffic."""

    def attack(gate: Gateway, seconds: float) -> Seen:
        end = time.monotonic() + seconds
        seen = table(gate, seconds)
        while time.monotonic() < end and not seen.failures:
            seen = table(gate, seconds)
        return seen

    return attack


ROWS = [
    Row("smuggling", "smuggling: CL.TE, TE.CL, TE.TE, CL.CL, folds, bare LF, chunk extensions", again_and_again(smuggling), 4, rounds=QUICK_ROUNDS),
    Row("behind-haproxy", "the same behind haproxy", behind("haproxy", ["haproxy", "-db", "-f"], HAPROXY), 6, rounds=QUICK_ROUNDS),
    Row("behind-nginx", "the same behind nginx", behind("nginx", ["nginx", "-c"], NGINX), 6, rounds=QUICK_ROUNDS),
    Row("oversized", "oversized head, URI, body, batch, line, JSON depth; doubled fields", again_and_again(oversized), 4, rounds=QUICK_ROUNDS),
    Row("origin", "forged origin: X-Forwarded-For and kin, PROXY from anybody", again_and_again(origin), 4, rounds=QUICK_ROUNDS),
]
