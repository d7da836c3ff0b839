#!/usr/bin/env bash
# Fuzzes every plane of a demo by the contract, with schemathesis (PyPI):
#   tests/schemathesis.sh [EXAMPLES]
# EXAMPLES for each operation, 200 unless told. Needs a built peselgate
# (PESELGATE, target/debug/peselgate by default) and `schemathesis` in the PATH. Exit
# status 1 when the contract was broken, 2 when there was nothing to try or to try with.
set -euo pipefail
program=${PESELGATE:+$(realpath -m -- "$PESELGATE")}
cd "$(dirname "$0")/.."
. tests/tools.sh
examples=${1:-200}
: "${program:=${CARGO_TARGET_DIR:-target}/debug/peselgate}"
command -v schemathesis >/dev/null || { echo "schemathesis is missing" >&2; exit 2; }
# All of it is on the loopback.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
dir=$(mktemp -d)
demo=
trap 'kill $demo 2>/dev/null || true; wait $demo 2>/dev/null || true; [ -n "${KEEP:-}" ] || rm -rf "$dir"' EXIT
start_demo "$program" "$dir"

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
