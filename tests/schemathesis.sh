#!/usr/bin/env bash
# Fuzzes every plane of a demo by the contract, with schemathesis (PyPI):
#   tests/schemathesis.sh [EXAMPLES]
# EXAMPLES for each operation, 200 unless told. Needs a built peselgate
# (PESELGATE, target/debug/peselgate by default) and `schemathesis` in the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
examples=${1:-200}
program=${PESELGATE:-target/debug/peselgate}
dir=$(mktemp -d)
"$program" demo --data-dir "$dir/d" --reserved 1000 --listen 127.0.0.1:0 \
    --admin-listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 >"$dir/out" 2>"$dir/err" &
demo=$!
trap 'kill "$demo" 2>/dev/null || true; wait "$demo" 2>/dev/null || true; [ -n "${KEEP:-}" ] || rm -rf "$dir"' EXIT
for _ in $(seq 600); do
    grep -q '^ready' "$dir/out" && break
    kill -0 "$demo"
    sleep 0.1
done
read -r verification admin ops < <(sed -n \
    's/^ready: verification \(.*\), admin \(.*\), operations \(.*\)/\1 \2 \3/p' "$dir/out")

PESELGATE_KEY=$(cat "$dir/d/demo-key")
PESELGATE_ADMIN_TOKEN=$(cat "$dir/d/demo-admin-token")
export PESELGATE_KEY PESELGATE_ADMIN_TOKEN

run() { # URL, paths
    schemathesis --config-file tests/schemathesis.toml run config/openapi.yaml --url "$1" \
        --include-path-regex "$2" --max-examples "$examples" --no-color
}
status=0
run "$verification" '^/(v1/|openapi)' || status=1
run "$admin" '^/admin/' || status=1
run "$ops" '^/(livez|readyz|metrics)' || status=1
# Nothing of all that may have broken a handler.
if curl -sf "$ops/metrics" | grep -E '^peselgate_handler_panics_total [^0]'; then status=1; fi
exit "$status"
