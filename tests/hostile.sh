#!/usr/bin/env bash
# Attacks a gateway and prints one table row for each attack:
#
#   tests/hostile.sh [PROGRAM] [ROW...] >table
#
# PROGRAM is a built peselgate; without one, or as `-`, the release is built. ROW
# names single attacks (a wrong name prints them all); all of them take some
# twenty minutes. Everything stays on the loopback, in a directory of its own,
# with a demo's fictional data. The exit status is 0 when every attack met its
# defence, 1 when one did not, 2 when nothing could be tried (a wrong name, no wrk, a
# gateway that does not start), 3 when all that were tried did and some were not, for
# want of a tool: standard error names them. Speeds are told, not judged.
#
# Needs Linux, Python 3.11 and wrk; slowhttptest, h2load (nghttp2-client), haproxy,
# nginx, sslscan and testssl.sh for their rows. What is missing is installed as root with
# apt-get, else the row says so.
set -euo pipefail
program=${1:--}
[ $# = 0 ] || shift
[ "$program" = - ] || program=$(realpath -m -- "$program")
cd "$(dirname "$0")/.."
. tests/tools.sh

declare -A package=([wrk]=wrk [slowhttptest]=slowhttptest [h2load]=nghttp2-client [sslscan]=sslscan
  [testssl]=testssl.sh [haproxy]=haproxy [nginx]=nginx-light [taskset]=util-linux)
missing=()
for tool in "${!package[@]}"; do
  command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
done
install_packages "${missing[@]}" >&2 || true

if [ "$program" = - ]; then
  cargo build --release >&2 || exit 2
  program=${CARGO_TARGET_DIR:-target}/release/peselgate
fi
exec python3 -B tests/hostile/run.py "$program" "$@"
