#!/usr/bin/env bash
# Checks what an operator copies from config/ with the tools that will read it:
#   tests/operations.sh
# Needs promtool (Debian: prometheus), haproxy, nginx, systemd-analyze, openssl,
# curl, and a built peselgate (PESELGATE, target/debug/peselgate by default).
set -euo pipefail
cd "$(dirname "$0")/.."
program=${PESELGATE:-target/debug/peselgate}
dir=$(mktemp -d)
demo=
trap '[ -z "$demo" ] || { kill "$demo" 2>/dev/null || true; wait "$demo" 2>/dev/null || true; }; rm -rf "$dir"' EXIT

echo "== promtool"
promtool check rules config/alerts.yml
promtool test rules config/alerts.test.yml
"$program" demo --data-dir "$dir/d" --reserved 1000 --listen 127.0.0.1:0 \
    --admin-listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 >"$dir/out" 2>"$dir/err" &
demo=$!
for _ in $(seq 600); do
    grep -q '^ready' "$dir/out" && break
    kill -0 "$demo"
    sleep 0.1
done
read -r verification ops < <(sed -n \
    's/^ready: verification \(.*\), admin .*, operations \(.*\)/\1 \2/p' "$dir/out")
curl -sf -o /dev/null "$verification/v1/verify/batch" -H "authorization: Bearer $(cat "$dir/d/demo-key")" \
    -H 'content-type: application/json' -d '{"pesels":["50810100014"]}'
curl -sf "$ops/metrics" >"$dir/metrics"
promtool check metrics <"$dir/metrics" | tee "$dir/lint"
# It only warns about some things; nothing at all is to be said.
[ ! -s "$dir/lint" ]

echo "== haproxy"
haproxy -c -f config/haproxy.cfg

echo "== nginx"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=peselgate.example \
    -keyout "$dir/peselgate.key" -out "$dir/peselgate.pem" 2>/dev/null
sed "s#/etc/nginx/peselgate#$dir/peselgate#; s#/var/log/nginx#$dir#" config/nginx.conf >"$dir/nginx.conf"
nginx -t -q -c "$dir/nginx.conf" -g "pid $dir/nginx.pid; error_log $dir/error.log;" || { cat "$dir/error.log"; exit 1; }

echo "== systemd"
# The service's program is not installed here; about the socket nothing is to be said.
systemd-analyze verify --recursive-errors=no config/peselgate.socket 2>"$dir/verify" || { cat "$dir/verify"; exit 1; }
if grep -F peselgate.socket "$dir/verify"; then exit 1; fi
systemd-analyze security --offline=true --threshold=20 --no-pager config/peselgate.service | tail -n 1

echo "== the configuration's example"
"$program" serve --config config/peselgate.example.toml --check-config
PESELGATE_OPS__LISTEN=0.0.0.0:8082 "$program" serve --config config/peselgate.example.toml --check-config
