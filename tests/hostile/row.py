"""One attack, measured: good clients without it, with it, without it again, and what it left behind."""

import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import good
from gateway import Gateway, Place

YARDSTICK_SECONDS = 3
REST_SECONDS = 10
# How often an attack comes, and one that is over in seconds.
ROUNDS = 3
QUICK_ROUNDS = 5
# What an allocator keeps of a burst, whatever the size of the register.
MEMORY_SLACK_KIB = 4096
# Rows and gateways are inherited, for they cannot be pickled; from Python 3.14 on fork
# is no longer the default.
FORK = multiprocessing.get_context("fork")


class Verdict(Enum):
    """What became of a row."""

    PASSED = "pass"
    FAILED = "fail"
    NOT_TRIED = "skipped"


class Missing(Exception):
    """A tool that the row needs is not there."""


@dataclass
class Seen:
    """What the attack met: the defence in words, and what should not have been."""

    defence: str = ""
    failures: list[str] = field(default_factory=list)
    # Ratios that hardening asks for; told, never asserted: they depend on the machine.
    figures: str = ""

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.failures.append(otherwise)


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    attack: Callable[[Gateway, float], Seen]
    seconds: float = 6
    tls: bool = False
    # Whether good clients are measured beside it.
    load: bool = True
    # Whether good clients must not notice but in speed.
    unhurt: bool = True
    # Whether the attack is meant to end the process, in order.
    ends: bool = False
    # How often the attack comes beside good clients, who are alone before and after each
    # time: a disk or a host that others use changes goodput by more than an attack does.
    rounds: int = ROUNDS


HEADER = (
    "| attack | defence seen | good answers/s with / without (ratio: least … most) | p99 ms with / without "
    "| cores busy, server + clients, with / without | memory MiB before / after / at rest | panics | |\n"
    "|---|---|---|---|---|---|---|---|"
)


def run(row: Row, place: Place) -> tuple[str, Verdict]:
    """The row's line in the table, and what became of it."""
    gate = Gateway(place, tls=row.tls)
    try:
        return _measured(row, gate)
    except Missing as missing:
        gate.stop()
        return f"| {row.title} | not tried: {missing} | | | | | | {Verdict.NOT_TRIED.value} |", Verdict.NOT_TRIED
    finally:
        gate.stop()


def _measured(row: Row, gate: Gateway) -> tuple[str, Verdict]:
    # Where nothing is compared the load only warms the process up, for its memory.
    without = [good.measure(gate, YARDSTICK_SECONDS if row.load else 1)]
    during: list[good.Measured] = []
    seen = Seen()
    before = gate.memory_kib()
    for number in range(row.rounds if row.load else 1):
        if number > 0:
            without.append(good.measure(gate, YARDSTICK_SECONDS))
        met, load = _attacked(row, gate)
        seen = Seen(met.defence, seen.failures + met.failures, met.figures)
        if load:
            during.append(load)
        if gate.process.poll() is not None:
            break
    lives = gate.process.poll() is None
    after = gate.memory_kib() if lives else 0
    rates = times = cores = memory = ""
    if row.unhurt:
        for what, count in (("requests refused", "refused"), ("connections broken", "broken")):
            hurt = sum(getattr(one.load, count) for one in during)
            seen.expect(hurt == 0, f"{hurt} good {what}")
    panics = str(gate.err.read_text(errors="replace").count("panicked"))
    if lives:
        rest = _memory_at_rest(gate, before)
        memory = " / ".join(f"{kib / 1024:.0f}" for kib in (before, after, rest))
        seen.expect(rest <= before * 1.1 + MEMORY_SLACK_KIB, f"memory {before} KiB, {rest} KiB after the rest")
        panics = str(gate.panics())
        seen.expect(panics == "0", f"{panics} panics")
        if during:
            without.append(good.measure(gate, YARDSTICK_SECONDS))
        status = gate.stop()
        seen.expect(status == 0, f"exit status {status} after SIGTERM")
    elif row.ends:
        seen.expect(gate.stop() == 0 and panics == "0", f"exit status {gate.stop()}, {panics} panics")
    else:
        seen.expect(False, f"the gateway ended: {gate.err.read_text()[-500:]}")
    if during:
        rates, times, cores = _compared(during, without)
    defence = "; ".join(part for part in (seen.defence, seen.figures) if part)
    verdict = Verdict.FAILED if seen.failures else Verdict.PASSED
    told = f"**{verdict.value}**: " + "; ".join(seen.failures) if seen.failures else verdict.value
    return f"| {row.title} | {defence} | {rates} | {times} | {cores} | {memory} | {panics} | {told} |", verdict


def _compared(during: list[good.Measured], without: list[good.Measured]) -> tuple[str, str, str]:
    """Answers a second, their 99th percentile, and how busy the cores were: with the attack and without.

    Each round is a ratio of its own, against what was got just before and just after it.
    """
    sides = [(before.load.goodput + after.load.goodput) / 2 for before, after in zip(without, without[1:])]
    ratios = [one.load.goodput / side for one, side in zip(during, sides)]

    def middle(of: list[good.Measured], what: Callable[[good.Measured], float]) -> float:
        return statistics.median(map(what, of))

    def both(what: Callable[[good.Measured], float], form: str) -> str:
        return f"{middle(during, what):{form}} / {middle(without, what):{form}}"

    ratio = f"{statistics.median(ratios):.2f}"
    if len(ratios) > 1:
        ratio += f": {min(ratios):.2f} … {max(ratios):.2f}"
    busy = [f"{middle(of, lambda one: one.server):.0%} + {middle(of, lambda one: one.clients):.0%}" for of in (during, without)]
    return (
        f"{both(lambda one: one.load.goodput, '.0f')} ({ratio})",
        both(lambda one: one.load.p99_ms, ".1f"),
        " / ".join(busy),
    )


def _memory_at_rest(gate: Gateway, before: int) -> int:
    """What is left when only good clients are, for ten seconds at the most.

    They are needed: the allocator gives freed pages back while it is used.
    """
    began = time.monotonic()
    while (now := gate.memory_kib()) > before * 1.1 and time.monotonic() - began < REST_SECONDS:
        good.run(gate, 1)
    return now


def _attacked(row: Row, gate: Gateway) -> tuple[Seen, good.Measured | None]:
    """The attack in a process of its own, which yields to the good clients on their core."""
    ours, theirs = FORK.Pipe()
    attacker = FORK.Process(target=_attack, args=(row, gate, theirs))
    attacker.start()
    theirs.close()
    try:
        time.sleep(0.2)  # the good clients are to meet an attack under way
        during = good.measure(gate, row.seconds - 1) if row.load else None
        try:
            seen = ours.recv()
        except EOFError:
            seen = Seen(failures=["the attacker died"])
    except BaseException:  # asked to end: so is the attacker
        attacker.terminate()
        raise
    finally:
        attacker.join()
    if isinstance(seen, Missing):
        raise seen
    return seen, during


def _attack(row: Row, gate: Gateway, pipe) -> None:
    # Attackers come from machines of their own; here they get what the good clients leave.
    os.nice(19)
    try:
        pipe.send(row.attack(gate, row.seconds))
    except Missing as missing:
        pipe.send(missing)
    except Exception:  # whatever it is, it is this row's failure and not the run's
        pipe.send(Seen(failures=[traceback.format_exc().strip().replace("\n", " ").replace("|", "/")[-300:]]))
