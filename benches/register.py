#!/usr/bin/env python3
"""Measures the register's side of the release program and prints the README's rows.

    cargo build --release && python3 benches/register.py
    python3 benches/register.py --entries 7500000 --events 4

Into an empty demo it imports a reservation for each entry, then further events
until there are as many as asked for on average; starts it again; and then, with
verification load on (Debian's wrk), makes changes, lets re-reservations fall due
and asks about the past. The program runs on one core, everything else on another.
Everybody in it is born 1800-1899. The second line above takes about twenty minutes
and 6 GB, the first one five minutes.
"""
import argparse
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

WEIGHTS = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)
FIRST_DAY = datetime(1800, 1, 1)
DAYS = 36_524
EPOCH = datetime(2024, 1, 1, tzinfo=timezone.utc)
ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
PROGRAM = TARGET / "release/peselgate"
# Numbers asked about, and changes of each round: all from a supply of their own.
KNOWN = 20_000
CHANGES, FREE = 10_000, 50_000


def say(text):
    print(text, file=sys.stderr, flush=True)


def rfc3339(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def day_digits(day):
    date = FIRST_DAY + timedelta(days=day)
    return f"{date.year % 100:02}{date.month + 80:02}{date.day:02}"


def numbers_of(entries, serials):
    """That many numbers, evenly over the days; `serials` is where a day begins."""
    for day in range(DAYS):
        digits = day_digits(day)
        head = sum(int(d) * w for d, w in zip(digits, WEIGHTS))
        count = entries * (day + 1) // DAYS - entries * day // DAYS
        for serial in range(serials, serials + count):
            a, b, c, d = serial // 1000, serial // 100 % 10, serial // 10 % 10, serial % 10
            yield f"{digits}{serial:04}{-(head + 7 * a + 9 * b + c + 3 * d) % 10}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Gateway:
    """A demo of the release program on one core."""

    def __init__(self, directory, core):
        self.directory, self.core = directory, core
        self.ports = [free_port() for _ in range(3)]
        self.process = None

    def start(self):
        """Starts it; seconds until it is ready."""
        listen = zip(("--listen", "--admin-listen", "--ops-listen"), self.ports)
        flags = [text for flag, port in listen for text in (flag, f"127.0.0.1:{port}")]
        command = ["taskset", "-c", str(self.core), str(PROGRAM), "demo"]
        command += ["--threads", "1", "--reserved", "0", "--data-dir", self.directory, *flags]
        began = time.monotonic()
        with open(f"{self.directory}.err", "w") as err:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True)
        for line in self.process.stdout:
            if line.startswith("ready"):
                return time.monotonic() - began
        sys.exit(f"the gateway did not start: {Path(f'{self.directory}.err').read_text()[-2000:]}")

    def stop(self):
        if not self.process:
            return
        self.process.send_signal(signal.SIGTERM)
        self.process.stdout.read()
        self.process.wait()

    def resident_mb(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def secret(self, name):
        return (Path(self.directory) / name).read_text().strip()

    def client(self, plane):
        """A connection that asks: path and body in, status and answer out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[plane])
        secret = self.secret(("demo-key", "demo-admin-token")[plane])
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}

        def ask(path, body):
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

        return ask

    def load(self, numbers, seconds, connections=8):
        """wrk's requests a second and p99 in milliseconds."""
        environment = os.environ | {
            "NUMBERS": numbers, "KEY_FILE": f"{self.directory}/demo-key", "BATCH": "0"}
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s",
                   str(ROOT / "benches/verify.lua"), f"http://127.0.0.1:{self.ports[0]}/v1/verify"]
        out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in out or "Socket errors" in out:
            sys.exit(f"requests failed:\n{out}")
        value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
        scale = {"us": 1e-3, "ms": 1, "s": 1e3}[unit]
        return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), float(value) * scale

    def bring_in(self, file):
        """Imports a file; seconds."""
        began = time.monotonic()
        subprocess.run(
            [PROGRAM, "import", file, "--allow-mass-change",
             "--admin-url", f"http://127.0.0.1:{self.ports[1]}",
             "--admin-token-file", f"{self.directory}/demo-admin-token"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.monotonic() - began


def line(pesel, kind, moment, again=None):
    end = f',"reserve_again_at":"{again}"' if again else ""
    return (f'{{"pesel":"{pesel}","kind":"{kind}","moment":"{moment}","channel":"e-service",'
            f'"registrant":"Rejestr"{end}}}\n')


def history(work, entries, number_of_event):
    """The next event of every entry, in the order of moments and not of numbers."""
    kind = "reservation" if number_of_event % 2 == 0 else "withdrawal"
    moment = rfc3339(EPOCH + timedelta(days=30 * number_of_event))
    path = work / "history.ndjson"
    numbers = list(numbers_of(entries, 0))
    random.Random(number_of_event).shuffle(numbers)
    with path.open("w") as out:
        out.writelines(line(pesel, kind, moment) for pesel in numbers)
    return path


def changes(gateway, free, rate, seconds):
    """Reservations at that rate; statuses, and milliseconds of each."""
    took, statuses, end = [], {}, time.monotonic() + seconds

    def run(own):
        ask, due = gateway.client(1), time.monotonic()
        for pesel in own:
            due += 8 / rate
            if due > end:
                break
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            status, _ = ask("/admin/v1/reservations", {"pesel": pesel, "channel": "gmina", "registrant": "Gmina"})
            took.append((time.monotonic() - began) * 1e3)
            statuses[status] = statuses.get(status, 0) + 1

    threads = [threading.Thread(target=run, args=(free[place::8],)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses, sorted(took)


def due_together(gateway, work, numbers_file, base, count, seconds_ahead):
    """Temporary withdrawals that end in the same second, verification load on.

    Returns milliseconds until the first and the last of them are seen reserved, and
    the load's p99 around it.
    """
    now = datetime.now(timezone.utc).replace(microsecond=0)
    due = now + timedelta(seconds=seconds_ahead)
    pesels = list(numbers_of(DAYS, base))[:count]
    path = work / "due.ndjson"
    with path.open("w") as out:
        for pesel in pesels:
            out.write(line(pesel, "reservation", rfc3339(now - timedelta(hours=3))))
            out.write(line(pesel, "withdrawal", rfc3339(now - timedelta(hours=2)), rfc3339(due)))
    gateway.bring_in(path)
    ask, seen = gateway.client(0), {}

    def watch():
        time.sleep(max(0.0, due.timestamp() - time.time() - 0.02))
        left = [pesels[start:start + 1000] for start in range(0, len(pesels), 1000)]
        while left:
            status, answer = ask("/v1/verify/batch", {"pesels": left[0]})
            late = (time.time() - due.timestamp()) * 1e3
            if status == 200 and any(result["reserved"] for result in answer["results"]):
                seen.setdefault("first", late)
            if status == 200 and all(result["reserved"] for result in answer["results"]):
                left.pop(0)
                seen["last"] = late
            if late > 30_000:
                sys.exit("re-reservations did not take effect")

    watcher = threading.Thread(target=watch)
    watcher.start()
    time.sleep(max(0.0, due.timestamp() - time.time() - 1.5))
    _, p99 = gateway.load(numbers_file, 3)
    watcher.join()
    return seen["first"], seen["last"], p99


def latencies(gateway, numbers, at, count):
    """Sorted milliseconds of single questions, one after the other."""
    ask, took = gateway.client(0), []
    for turn in range(count):
        body = {"pesel": numbers[turn % len(numbers)]} | ({"at": at} if at else {})
        began = time.monotonic()
        status, _ = ask("/v1/verify", body)
        took.append((time.monotonic() - began) * 1e3)
        if status != 200:
            sys.exit(f"a question was answered {status}")
    return sorted(took)


def p99(sorted_values):
    return sorted_values[len(sorted_values) * 99 // 100]


def spread(values, form="{:.2f}"):
    low, mid, high = (form.format(v) for v in (min(values), statistics.median(values), max(values)))
    return f"{mid} ({low} … {high})"


def arguments():
    parser = argparse.ArgumentParser(description="figures of the register's side")
    parser.add_argument("--entries", type=int, default=7_500_000)
    parser.add_argument("--events", type=int, default=1, help="events an entry has on average")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=1, help="the gateway's")
    given = parser.parse_args()
    # From serial 6 000 of each day on, numbers are for what falls due.
    if not KNOWN <= given.entries <= DAYS * 6_000:
        parser.error(f"--entries: from {KNOWN} to {DAYS * 6_000}, that there are enough to ask about")
    # One every 30 days since then, none of them to come.
    events_max = (datetime.now(timezone.utc) - EPOCH).days // 30
    if not 1 <= given.events <= events_max:
        parser.error(f"--events: from 1 to {events_max}")
    if not 1 <= given.rounds <= FREE // CHANGES:
        parser.error(f"--rounds: from 1 to {FREE // CHANGES}")
    if given.core not in os.sched_getaffinity(0):
        parser.error(f"--core: one of {sorted(os.sched_getaffinity(0))}")
    for what, there in (("wrk", shutil.which("wrk")), (str(PROGRAM), PROGRAM.exists())):
        if not there:
            sys.exit(f"{what} is missing")
    return given


def measure(gateway, work, given, row):
    gateway.start()
    took = [gateway.bring_in(history(work, given.entries, event)) for event in range(given.events)]
    millions = given.entries / 1e6
    row(f"import of {millions:g} M events into an empty register, s", 120, f"{took[0]:.0f}")
    if took[1:]:
        row(f"each further {millions:g} M, s", "", spread(took[1:], "{:.0f}"))
    (work / "history.ndjson").unlink()
    gateway.stop()
    row("ready after start, s", 3, f"{gateway.start():.2f}")
    time.sleep(2)
    # An entry with an even number of events is withdrawn and keeps two moments.
    state, must = ("reserved", 200) if given.events % 2 else ("withdrawn", "")
    row(f"resident memory after it, all entries {state}, MB", must, f"{gateway.resident_mb():.0f}")

    rng = random.Random(5)
    known = rng.sample(list(numbers_of(given.entries, 0)), KNOWN)
    numbers_file = work / "numbers.csv"
    numbers_file.write_text("\n".join(["pesel", *known]) + "\n")
    free = rng.sample(list(numbers_of(100_000, 9_000)), FREE)

    ratios, spent, statuses = [], [], {}
    for round_number in range(given.rounds):
        _, alone = gateway.load(numbers_file, 5)
        told = []
        part = free[round_number * CHANGES:(round_number + 1) * CHANGES]
        changing = threading.Thread(target=lambda: told.append(changes(gateway, part, 1_000, 6)))
        changing.start()
        time.sleep(0.5)
        _, beside = gateway.load(numbers_file, 5)
        changing.join()
        ratios.append(beside / alone)
        for status, count in told[0][0].items():
            statuses[status] = statuses.get(status, 0) + count
        spent.append(p99(told[0][1]))
    if set(statuses) != {201}:
        sys.exit(f"changes failed: {statuses}")
    row("1 000 changes/s through the admin plane, p99 of verification against alone", 2, spread(ratios))
    row("the same, p99 of a change, ms", "", spread(spent, "{:.1f}"))

    late = [due_together(gateway, work, numbers_file, 6_000 + n, 1, 4) for n in range(given.rounds)]
    row("one re-reservation under load, seen after its second, ms", 50, spread([x[1] for x in late], "{:.0f}"))
    ratios, last = [], []
    for round_number in range(given.rounds):
        _, alone = gateway.load(numbers_file, 3)
        _, end, beside = due_together(gateway, work, numbers_file, 7_000 + round_number, 10_000, 8)
        ratios.append(beside / alone)
        last.append(end)
    row("10 000 re-reservations of one second, the last seen after, ms", 1000, spread(last, "{:.0f}"))
    row("the same, p99 of verification against alone", 2, spread(ratios))

    past = rfc3339(EPOCH + timedelta(days=1))
    ratios = []
    for _ in range(given.rounds):
        now = p99(latencies(gateway, known, None, 5_000))
        then = p99(latencies(gateway, known, past, 5_000))
        ratios.append(then / now)
    row(f"a question about the past ({given.events} events an entry), p99 against now", 5, spread(ratios))


def main():
    given = arguments()
    # Asked to end, it ends as after a failure: the gateway and the directory go.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    os.sched_setaffinity(0, set(range(os.cpu_count())) - {given.core} or {given.core})
    rows = []

    def row(figure, must, measured):
        rows.append(f"| {figure} | {must} | {measured} |")
        say(rows[-1])

    with tempfile.TemporaryDirectory(dir=TARGET) as name:
        gateway = Gateway(f"{name}/demo", given.core)
        try:
            measure(gateway, Path(name), given, row)
        finally:
            gateway.stop()

    print(f"{datetime.now():%Y-%m-%d}, {os.uname().machine}, {os.cpu_count()} cores, gateway on core "
          f"{given.core}; {given.entries} entries of {given.events} events, {given.rounds} rounds; "
          "median (minimum … maximum).\n\n| figure | must | measured |\n|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
