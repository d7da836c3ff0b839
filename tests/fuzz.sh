#!/usr/bin/env bash
# Runs every fuzz target, or those named, for SECONDS (30), as many at once as there
# are cores:
#
#   tests/fuzz.sh [SECONDS [NAME...]]
#
# Exit status 0 when every property held. What broke one stays in
# fuzz/artifacts/NAME; what a run learns goes into a temporary directory, or into
# FUZZ_CORPUS/NAME when that is set. Needs cargo-fuzz, and installs it if missing.
set -euo pipefail
corpus=${FUZZ_CORPUS:+$(realpath -m -- "$FUZZ_CORPUS")}
cd "$(dirname "$0")/.."
seconds=${1:-30}
if ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: tests/fuzz.sh [SECONDS [NAME...]]" >&2
  exit 2
fi
[ $# = 0 ] || shift

cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked
# Without a sanitizer: the crate has no unsafe code, and stable Rust is enough.
cargo fuzz build --sanitizer none

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: "${corpus:=$work/corpus}"

run() {
  local name=$1 status=0
  mkdir -p "$corpus/$name"
  cargo fuzz run "$name" --sanitizer none "$corpus/$name" "fuzz/seeds/$name" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 \
    >"$work/$name.log" 2>&1 || status=$?
  local runs
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$name.log")
  if [ "$status" = 0 ]; then
    echo "$name: held, ${runs:-?} runs"
  else
    echo "$name: FAILED"
    tail -n 40 "$work/$name.log"
  fi
  return "$status"
}
export -f run
export seconds corpus work

if [ $# = 0 ]; then
  names=$(cargo fuzz list)
else
  names=$(printf '%s\n' "$@")
fi
xargs -P "$(nproc)" -I NAME bash -c 'run NAME' <<<"$names"
