"""More than the gateway can do: what still gets done, how fast, and how the rest is told."""

import json
import shutil
import subprocess
from dataclasses import dataclass

import good
from gateway import Gateway
from row import Missing, Row, Seen

PEAK_CONNECTIONS = 64
GREEDY_PER_SECOND = 200
# Until all connections are made: hundreds at once are a storm of their own.
RAMP_SECONDS = 1


@dataclass(frozen=True)
class Shot:
    """What h2load saw: answers a second and their 99th percentile, by kind."""

    good: float
    good_p99_ms: float
    shed: float
    shed_p99_ms: float
    other: dict[int, int]

    def words(self, peak: float) -> str:
        told = f"{self.good:.0f}/s ({self.good / peak:.2f} of peak), p99 {self.good_p99_ms:.1f} ms"
        if self.shed:
            told += f", shed {self.shed:.0f}/s p99 {self.shed_p99_ms:.1f} ms"
        return told


def p99(times: list[float]) -> float:
    return sorted(times)[min(len(times) - 1, len(times) * 99 // 100)] if times else 0


def h2load(gate: Gateway, seconds: int, *options: str, key: str | None = None) -> Shot:
    if not shutil.which("h2load"):
        raise Missing("h2load is missing (nghttp2-client)")
    work = gate.place.work
    (work / "body").write_bytes(gate.body())
    log = work / "h2load.log"
    log.unlink(missing_ok=True)
    command = ["h2load", "-t1", "-D", str(seconds + RAMP_SECONDS), "--log-file", str(log), "-d", str(work / "body"), *options]
    command += ["-H", f"authorization: Bearer {key or gate.key}", "-H", "content-type: application/json"]
    command.append(f"{gate.url}/v1/verify")
    told = subprocess.run(gate.place.on_clients(command), capture_output=True, text=True, timeout=seconds + 60)
    if not log.exists():
        raise RuntimeError(told.stdout[-300:] + told.stderr[-300:])
    kinds: dict[int, list[float]] = {}
    lines = [line.split("\t")[:3] for line in log.read_text().splitlines()]
    counted_from = min((int(began) for began, _, _ in lines), default=0) + RAMP_SECONDS * 1_000_000
    for began, status, micros in lines:
        if int(began) < counted_from:
            continue
        kinds.setdefault(int(status), []).append(int(micros) / 1000)
    accepted, shed = kinds.pop(200, []), kinds.pop(503, []) + kinds.pop(429, [])
    other = {status: len(times) for status, times in kinds.items()}
    return Shot(len(accepted) / seconds, p99(accepted), len(shed) / seconds, p99(shed), other)


def more_connections(gate: Gateway, seconds: float) -> Seen:
    """Closed loop: twice, five and ten times the connections that make the peak."""
    peak = h2load(gate, 3, "--h1", "-c", str(PEAK_CONNECTIONS))
    seen = Seen(f"peak {peak.good:.0f}/s, p99 {peak.good_p99_ms:.1f} ms with {PEAK_CONNECTIONS} connections")
    for times in (2, 5, 10):
        shot = h2load(gate, 3, "--h1", "-c", str(PEAK_CONNECTIONS * times))
        seen.expect(shot.good > 0, f"x{times}: nothing got done")
        seen.expect(not shot.other, f"x{times}: {shot.other}")
        seen.defence += f"; x{times}: {shot.words(peak.good)}"
    return seen


def more_streams(gate: Gateway, seconds: float) -> Seen:
    """Over HTTP/2 each connection brings up to a hundred requests at once."""
    peak = h2load(gate, 3, "-c", "1", "-m", str(PEAK_CONNECTIONS))
    seen = Seen(f"peak {peak.good:.0f}/s, p99 {peak.good_p99_ms:.1f} ms with {PEAK_CONNECTIONS} streams")
    for times in (10, 100):
        shot = h2load(gate, 3, "-c", str(times), "-m", str(PEAK_CONNECTIONS))
        seen.expect(shot.good > 0, f"x{times}: nothing got done")
        seen.expect(not shot.other, f"x{times}: {shot.other}")
        seen.defence += f"; x{times}: {shot.words(peak.good)}"
    return seen


def open_loop(gate: Gateway, seconds: float) -> Seen:
    """Arrivals that do not wait for answers, as far as 64 connections of 32 streams carry them."""
    peak = h2load(gate, 3, "--h1", "-c", str(PEAK_CONNECTIONS))
    seen = Seen(f"peak {peak.good:.0f}/s")
    for times in (2, 5, 10):
        each = max(1, int(peak.good * times / PEAK_CONNECTIONS))
        shot = h2load(gate, 3, "-c", str(PEAK_CONNECTIONS), "-m", "32", "--rps", str(each))
        seen.expect(shot.good > 0, f"x{times}: nothing got done")
        seen.expect(not shot.other, f"x{times}: {shot.other}")
        seen.defence += f"; x{times} offered: {shot.words(peak.good)}"
    return seen


def greedy(gate: Gateway, seconds: float) -> Seen:
    """One key at ten times its rate; everybody else must keep 95 %."""
    key = gate.issue(["127.0.0.0/8"], per_second=GREEDY_PER_SECOND)
    span = int(seconds)
    shot = h2load(gate, span, "--h1", "-c", "8", "--rps", str(GREEDY_PER_SECOND * 10 // 8), key=key)
    seen = Seen()
    allowed = GREEDY_PER_SECOND * (span + 2)
    seen.expect(shot.good * span <= allowed, f"{shot.good * span:.0f} answers where {allowed} are allowed")
    seen.expect(shot.shed > 0, "the greedy key was never refused")
    seen.defence = f"the greedy key: {shot.good:.0f}/s answered, {shot.shed:.0f}/s told 429, p99 {shot.shed_p99_ms:.1f} ms"
    return seen


ROWS = [
    Row("overload", "overload, connections x2, x5, x10", more_connections, load=False),
    Row("overload-streams", "overload, HTTP/2 streams x10, x100", more_streams, load=False),
    Row("overload-open", "overload, open loop x2, x5, x10", open_loop, load=False),
    Row("greedy", "one key at ten times its rate", greedy, 6),
]
