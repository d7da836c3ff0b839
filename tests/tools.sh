# Shared by the scripts of this repository, which source it; bash.
# shellcheck shell=bash

# install_packages PACKAGE...: with apt-get, as root; anybody else goes on without.
# What is a daemon's package (nginx, redis, haproxy, prometheus) starts nothing, now or
# at the next boot: it would listen beside what is measured, and stay.
install_packages() {
  [ $# -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
  (
    policy=/usr/sbin/policy-rc.d
    trap 'exit 130' INT TERM HUP
    if [ ! -e "$policy" ]; then
      trap 'rm -f "$policy"' EXIT
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod 755 "$policy"
    fi
    before=$(units_known)
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"
    if [ -d /run/systemd/system ]; then
      comm -13 <(echo "$before") <(units_known) | xargs -r systemctl disable -q 2>/dev/null || true
    fi
  )
}

units_known() {
  find /usr/lib/systemd/system /lib/systemd/system -maxdepth 1 -name '*.service' ! -name '*@*' -printf '%f\n' 2>/dev/null |
    sort -u
}

# start_demo PROGRAM DIR: a demo of a thousand numbers on free ports of the loopback,
# its data in DIR/d. Sets demo, its process, and verification, admin, ops, its URLs.
start_demo() {
  if [ ! -x "$1" ]; then
    echo "no program $1: \`cargo build\` makes it, PESELGATE names another" >&2
    exit 2
  fi
  "$1" demo --data-dir "$2/d" --reserved 1000 --listen 127.0.0.1:0 \
    --admin-listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 >"$2/out" 2>"$2/err" &
  demo=$!
  for _ in $(seq 600); do
    if grep -q '^ready' "$2/out" || ! kill -0 "$demo" 2>/dev/null; then break; fi
    sleep 0.1
  done
  # shellcheck disable=SC2034 # read by whoever sources this
  if ! read -r verification admin ops < <(sed -n \
    's/^ready: verification \(.*\), admin \(.*\), operations \(.*\)/\1 \2 \3/p' "$2/out"); then
    echo "the demo did not start:" >&2
    cat "$2/err" >&2
    exit 2
  fi
}
