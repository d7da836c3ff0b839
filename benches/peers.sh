#!/usr/bin/env bash
# Measures the gateway against its yardsticks in one run and prints the README's
# table: the servers on one core, the load generator on another, each figure the
# median of ROUNDS alternated rounds, with minimum and maximum.
#
#   benches/peers.sh            a table on standard output
#   ROUNDS=9 SECONDS_EACH=5 RESERVED=7500000 benches/peers.sh
#
# Needs two cores and Debian's wrk; redis-server and redis-tools, nginx-light and
# python3 for their rows. What is missing is installed as root with apt-get, else
# its rows say so. A measurement that fails, or that was answered with refusals, ends
# it with a word about it and exit status 1. Takes about five minutes after the build.
set -euo pipefail
# A comma in a figure would be another figure to the next program.
export LC_ALL=C
cd "$(dirname "$0")/.."
. tests/tools.sh
ROUNDS=${ROUNDS:-5}
EACH=${SECONDS_EACH:-4}
RESERVED=${RESERVED:-7500000}
# Answers wait for the disk: on a small machine the core that takes the disk's
# interrupts syncs in two thirds of the time of the other. All servers get it.
SERVER_CORE=${SERVER_CORE:-$(awk '/req\.|nvme|ahci|mpt/ { for (c = 2; $c ~ /^[0-9]+$/; c++) n[c - 2] += $c }
  END { best = 0; for (c in n) if (n[c] > n[best]) best = c; print best }' /proc/interrupts)}
LOAD_CORE=${LOAD_CORE:-$(( (SERVER_CORE + 1) % $(nproc) ))}

have() { command -v "$1" >/dev/null 2>&1; }
want=()
have wrk || want+=(wrk)
have redis-server || want+=(redis-server redis-tools)
have nginx || want+=(nginx-light)
have python3 || want+=(python3)
installed=$(install_packages "${want[@]}" 2>&1) || true
have wrk || { tail -n 5 <<<"$installed" >&2; echo "wrk is missing" >&2; exit 1; }
cargo build --release --bin peselgate --example bare_hyper >&2

work=$(mktemp -d)
pids=()
gate_pid=
finish() {
  for pid in $gate_pid "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in $gate_pid "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT
case $(stat -f -c %T "$work") in
  tmpfs | ramfs)
    echo "peers: $work is in memory, where a sync costs nothing and every figure would be too good;" \
      "TMPDIR=DIR names a directory on a disk" >&2
    exit 1
    ;;
esac
fail() { # words, files that say more
  echo "peers: $1" >&2
  shift
  [ $# = 0 ] || tail -qn 20 "$@" >&2
  exit 1
}

serve() { # port or socket, command
  local at=$1 err="$work/${2##*/}.err"
  shift
  taskset -c "$SERVER_CORE" "$@" >"$err" 2>&1 &
  local pid=$!
  pids+=("$pid")
  until if [ "${at#/}" = "$at" ]; then (exec 3<>"/dev/tcp/127.0.0.1/$at") 2>/dev/null; else [ -S "$at" ]; fi; do
    kill -0 "$pid" 2>/dev/null || fail "$1 did not start" "$err"
    sleep 0.05
  done
}
target=${CARGO_TARGET_DIR:-target}
gate=$target/release/peselgate
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' 2>/dev/null || shuf -i 20000-30000 -n 1; }
gate_port=$(free_port) admin_port=$(free_port) ops_port=$(free_port) bare_port=$(free_port) nginx_port=$(free_port)

start_gate() { # threads -> seconds until ready
  : >"$work/gate.out"
  local began; began=$(date +%s.%N)
  taskset -c "${2:-$SERVER_CORE}" "$gate" demo --data-dir "$work/demo" --reserved "$RESERVED" --threads "$1" \
    --listen 127.0.0.1:$gate_port --admin-listen 127.0.0.1:$admin_port --ops-listen 127.0.0.1:$ops_port \
    >"$work/gate.out" 2>"$work/gate.err" &
  gate_pid=$!
  until grep -q ^ready "$work/gate.out"; do
    kill -0 $gate_pid 2>/dev/null || fail "the gateway did not start" "$work/gate.err"
    sleep 0.02
  done
  awk -v a="$began" -v b="$(date +%s.%N)" 'BEGIN { printf "%.2f", b - a }' >"$work/ready_s"
}
stop_gate() {
  kill $gate_pid 2>/dev/null || fail "the gateway ended in the middle" "$work/gate.err"
  wait $gate_pid || fail "the gateway ended with status $?" "$work/gate.err"
  gate_pid=
}

start_gate 1            # makes the register
keys=1
if have python3; then
  keys=10000
  python3 - $admin_port "$work/demo/demo-admin-token" $keys <<'PY' || fail "keys could not be issued"
import concurrent.futures, http.client, json, sys
port, token, keys = int(sys.argv[1]), open(sys.argv[2]).read().strip(), int(sys.argv[3])
def issue(part):
    gate = http.client.HTTPConnection("127.0.0.1", port)
    for n in range(part, keys, 16):
        body = {"institution": {"name": f"Bank {n}"}, "system": "kredyty",
                "addresses": [f"10.{n % 256}.{m}.0/24" for m in range(10)]}
        gate.request("POST", "/admin/v1/keys", json.dumps(body), {"authorization": "Bearer " + token, "content-type": "application/json"})
        answer = gate.getresponse()
        answer.read()
        assert answer.status == 201, answer.status
with concurrent.futures.ThreadPoolExecutor(16) as parts:
    list(parts.map(issue, range(16)))
PY
fi
stop_gate
start_gate 1            # the start that counts
ready_s=$(cat "$work/ready_s")
sleep 1
rss_mb=$(awk '/VmRSS/ { printf "%.0f", $2 / 1024 }' /proc/$gate_pid/status)
serve $bare_port "$target/release/examples/bare_hyper" 127.0.0.1:$bare_port
if have nginx; then
  mkdir -p "$work/nginx"
  cat >"$work/nginx.conf" <<CONF
worker_processes 1; daemon off; pid $work/nginx.pid; error_log /dev/null;
events { worker_connections 1024; }
http { access_log off; client_body_temp_path $work/nginx; proxy_temp_path $work/nginx; fastcgi_temp_path $work/nginx;
  uwsgi_temp_path $work/nginx; scgi_temp_path $work/nginx; keepalive_requests 100000000;
  server { listen 127.0.0.1:$nginx_port; location / { default_type application/json; return 200 '{"reserved":false}'; } } }
CONF
  serve $nginx_port nginx -c "$work/nginx.conf"
fi
if have redis-server; then
  mkdir -p "$work/redis"
  serve "$work/redis.sock" redis-server --port 0 --unixsocket "$work/redis.sock" --dir "$work/redis" --appendonly yes --appendfsync always --save ''
  redis() { redis-cli -e -s "$work/redis.sock" "$@" >"$work/redis.out" 2>&1 || fail "redis-cli failed" "$work/redis.out"; }
  redis ping
  sed 1d "$work/demo/reserved.csv" | xargs redis-cli -e -s "$work/redis.sock" sadd reserved >"$work/redis.out" 2>&1 ||
    fail "redis-cli failed" "$work/redis.out"
  # As many members as the register has, so that both look into cold memory.
  seq 0 "$((RESERVED - 1))" | awk '{ printf "SADD reserved %012d\r\n", $1 }' | redis --pipe
  redis config set appendonly no
  redis config set appendonly yes
  while redis info persistence; grep -q 'aof_rewrite_in_progress:1' "$work/redis.out"; do sleep 0.5; done
fi

load() { # port connections batch -> requests_per_s, p50_us
  NUMBERS="$work/demo/reserved.csv" KEY_FILE="$work/demo/demo-key" BATCH=$3 \
    taskset -c "$LOAD_CORE" wrk -t"$(awk -F, '{ print NF }' <<<"$LOAD_CORE")" -c"$2" -d"${EACH}s" --latency -s benches/verify.lua "http://127.0.0.1:$1/v1/verify" \
    >"$work/wrk.out" 2>&1 || fail "wrk ended with status $?" "$work/wrk.out"
  ! grep -q 'Non-2xx' "$work/wrk.out" || fail "wrk was given refusals" "$work/wrk.out"
  # An answer that takes two seconds is the disk's hiccup, and in the figures.
  ! grep 'Socket errors' "$work/wrk.out" | grep -qv 'connect 0, read 0, write 0,' || fail "connections of wrk failed" "$work/wrk.out"
  read -r requests_per_s p50_us < <(
    awk '/Requests\/sec/ { rps = $2 } $1 == "50%" { v = $2; us = v + 0; if (v ~ /ms/) us *= 1000; else if (v ~ /[0-9]s/) us *= 1e6 }
         END { printf "%s %s\n", rps + 0, us + 0 }' "$work/wrk.out")
  positive "$requests_per_s" && positive "$p50_us" || fail "wrk measured nothing" "$work/wrk.out"
}
redis_rate() { # arguments of redis-benchmark -> calls_per_s
  taskset -c "$LOAD_CORE" timeout 60 redis-benchmark -s "$work/redis.sock" -q --csv "$@" >"$work/redis.out" 2>&1 ||
    fail "redis-benchmark ended with status $?" "$work/redis.out"
  calls_per_s=$(tail -n 1 "$work/redis.out" | awk -F'","' '{ print $2 }')
  positive "$calls_per_s" || fail "redis-benchmark measured nothing" "$work/redis.out"
}
positive() { awk -v v="$1" 'BEGIN { exit !(v ~ /^[0-9.]+(e[+0-9]+)?$/ && v > 0) }'; }
ask_disk() { # -> sync_us: p50 of fdatasync of 4 KiB into a zero-filled file, microseconds
  taskset -c "$SERVER_CORE" python3 - "$work/probe" >"$work/sync.out" <<'PY' || fail "the disk could not be asked"
import os, sys, time
f = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
os.write(f, bytes(8 << 20)); os.fsync(f)
times = []
for i in range(500):
    os.pwrite(f, b"x" * 4096, i * 4096)
    t = time.perf_counter(); os.fdatasync(f); times.append(time.perf_counter() - t)
print(round(sorted(times)[250] * 1e6))
PY
  sync_us=$(<"$work/sync.out")
}

ticks() { awk '$1 == "cpu" { print $2 + $3 + $4 + $7 + $8 + $9, $9 }' /proc/stat; } # asked for, and given to other guests of the host
ticks_before=$(ticks)
for round in $(seq "$ROUNDS"); do
  echo "round $round" >&2
  # What others left to be written must not stand before the syncs measured here.
  sync
  # The machine changes its pace, too: the yardstick is asked before and after.
  load $bare_port 64 0; before=$requests_per_s
  load $gate_port 64 0; own=$requests_per_s
  load $bare_port 64 0; bare=$(awk -v a="$before" -v b="$requests_per_s" 'BEGIN { print (a + b) / 2 }')
  load $bare_port 1 0; bare_one_us=$p50_us
  # The disk changes its pace within seconds: asked right before and right after.
  if have python3; then ask_disk; before_us=$sync_us; fi
  load $gate_port 1 0; one_us=$p50_us
  if have python3; then ask_disk; echo "$one_us $bare_one_us $before_us $sync_us" | awk '{ print $1, $2 + ($3 + $4) / 2 }' >>"$work/r.one"; fi
  load $gate_port 16 1; batch=$requests_per_s
  echo "$own $bare" >>"$work/r.bare"
  if have nginx; then load $nginx_port 64 0; echo "$own $requests_per_s" >>"$work/r.nginx"; fi
  awk -v b="$batch" 'BEGIN { print b * 1000 }' >>"$work/n.batch"
  if have redis-server; then
    number=$(sed -n 2p "$work/demo/reserved.csv")
    redis_rate -c 64 -n 100000 eval "redis.call('XADD',KEYS[2],'MAXLEN','~','100000','*','p',ARGV[1]) return redis.call('SISMEMBER',KEYS[1],ARGV[1])" 2 reserved trail "$number"
    echo "$own $calls_per_s" >>"$work/r.redis"
    # Random members, one in four of them there, as in the gateway's batches.
    redis_rate -c 16 -n 4000 -r $((RESERVED * 4)) smismember reserved $(yes __rand_int__ | head -1000)
    awk -v a="$batch" -v b="$calls_per_s" 'BEGIN { print a * 1000, b * 1000 }' >>"$work/r.batch"
  fi
  lines=1000000
  awk -v n=$lines 'NR == 1 { print; next } { row[NR] = $0 } END { for (i = 0; i < n; i++) print row[2 + i % (NR - 1)] }' \
    "$work/demo/reserved.csv" >"$work/million.csv"
  began=$(date +%s.%N)
  taskset -c $LOAD_CORE "$gate" bulk "$work/million.csv" --url http://127.0.0.1:$gate_port --key-file "$work/demo/demo-key" \
    --output "$work/million.out" --restart 2>"$work/bulk.err" || fail "bulk ended with status $?" "$work/bulk.err"
  awk -v n=$lines -v a="$began" -v b="$(date +%s.%N)" 'BEGIN { print n / (b - a) }' >>"$work/n.bulk"
  rm -f "$work/million.out"
done
stolen=$(echo "$ticks_before $(ticks)" | awk '{ printf "%.0f", 100 * ($4 - $2) / ($3 - $1) }')
stop_gate

# Two workers against one: only where two more cores are left for the load.
if [ "$(nproc)" -ge 4 ]; then
  own_load=$LOAD_CORE
  LOAD_CORE=$(seq 0 $(($(nproc) - 1)) | grep -vx -e "$SERVER_CORE" -e "$own_load" | paste -sd,)
  for round in $(seq "$ROUNDS"); do
    start_gate 1; load $gate_port 256 0; one_core=$requests_per_s; stop_gate
    start_gate 2 "$SERVER_CORE,$own_load"; load $gate_port 256 0; two_cores=$requests_per_s; stop_gate
    echo "$two_cores $one_core" >>"$work/r.scale"
  done
fi

spread() { sort -g | awk -v f="${1:-%.2f}" '{ v[NR] = $1 } END { if (!NR) { print "not measured"; exit } m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2; printf f " (" f " … " f ")\n", m, v[1], v[NR] }'; }
ratio() { [ -f "$work/$1" ] && awk '{ print $1 / $2 }' "$work/$1" | spread || echo "not measured: ${2:-the peer is missing}"; }
kilo() { awk -v f="$2" '{ print $f / 1000 }' "$work/$1" | spread '%.0f'; }

cat <<TABLE
$(date -I), $(uname -m), $(nproc) cores ($(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)), server on core $SERVER_CORE, load on core $LOAD_CORE;
$RESERVED reserved, $ROUNDS rounds of ${EACH} s; median (minimum … maximum); everything switched on, answers after fdatasync.
Of the processor time asked for meanwhile, other guests of the host took $stolen %.

| figure | must | measured |
|---|---|---|
| \`/v1/verify\`, 64 connections, against bare hyper | 0.50 | $(ratio r.bare) |
| the same against nginx \`return 200\` | | $(ratio r.nginx) |
| the same against Redis SISMEMBER + XADD, \`appendfsync always\` | 1.0 | $(ratio r.redis) |
| one connection, p50, against bare hyper p50 + one fdatasync p50 | 1.4 | $(ratio r.one) |
| batch of 1 000, numbers/s, against Redis SMISMEMBER | 1 | $(ratio r.batch) |
| batch of 1 000, thousand numbers/s | | $(kilo n.batch 1) |
| NDJSON stream of 1 M through \`peselgate bulk\`, thousand numbers/s | 500 | $(kilo n.bulk 1) |
| two workers on two cores against one, 256 connections | 1.6 | $(ratio r.scale "needs four cores") |
| bare hyper, thousand requests/s | | $(kilo r.bare 2) |
| resident memory, $keys keys, idle, MB | 200 | $rss_mb |
| ready after start, s | 3 | $ready_s |
TABLE
