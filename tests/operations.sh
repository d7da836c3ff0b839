#!/usr/bin/env bash
# Checks what an operator copies from config/ with the tools that will read it:
#   tests/operations.sh
# Needs promtool (Debian: prometheus), haproxy, nginx, systemd-analyze, openssl,
# curl, and a built peselgate (PESELGATE, target/debug/peselgate by default); no root.
# Exit status 2 when there is no program to try, or it does not start.
set -euo pipefail
program=${PESELGATE:+$(realpath -m -- "$PESELGATE")}
cd "$(dirname "$0")/.."
. tests/tools.sh
: "${program:=$(realpath -m -- "${CARGO_TARGET_DIR:-target}/debug/peselgate")}"
# All of it is on the loopback.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
dir=$(mktemp -d)
demo=
pids=()
finish() {
    for pid in $demo "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in $demo "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap finish EXIT

echo "== promtool"
promtool check rules config/alerts.yml
promtool test rules config/alerts.test.yml
start_demo "$program" "$dir"
curl -sf -o /dev/null "$verification/v1/verify/batch" -H "authorization: Bearer $(cat "$dir/d/demo-key")" \
    -H 'content-type: application/json' -d '{"pesels":["50810100014"]}'
curl -sf "$ops/metrics" >"$dir/metrics"
promtool check metrics <"$dir/metrics" | tee "$dir/lint"
# It only warns about some things; nothing at all is to be said.
[ ! -s "$dir/lint" ]

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=peselgate.example \
    -keyout "$dir/peselgate.key" -out "$dir/peselgate.pem" 2>/dev/null
# Ports such as anybody may use.
mapfile -t ports < <(shuf -i 20000-30000 -n 500)
free_port() { # -> port
    local last
    while :; do
        last=$((${#ports[@]} - 1)) port=${ports[last]}
        unset "ports[last]"
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
}
through() { # URL, key's file, the caller's address -> status
    curl -sk --retry 5 --retry-connrefused --retry-delay 1 --interface "$3" -o /dev/null -w '%{http_code}' \
        "$1/v1/verify" -H "authorization: Bearer $(cat "$2")" \
        -H 'content-type: application/json' -d '{"pesel":"50810100014"}' || cat "$dir/error.log" >&2
}

echo "== haproxy"
haproxy -c -f config/haproxy.cfg
# In front of a gateway that has what its comment asks of peselgate.toml, and no more:
# found ready, asked through it, and the caller's own address judged.
free_port; front=$port
free_port; state=$port
free_port; gate=$port
free_port; ready=$port
free_port; office=$port
{
    printf 'environment = "test"\n'
    sed -n 's/^#   //p' config/haproxy.cfg | sed "s#192\.0\.2\.11:8443#127.0.0.1:$gate#; s#192\.0\.2\.11:8082#127.0.0.1:$ready#
        s#192\.0\.2\.10#127.0.0.1#; s#/etc/peselgate/verification#$dir/peselgate#"
    printf '[data]\ndirectory = "%s"\n[admin]\nlisten = "127.0.0.1:%s"\n' "$dir/served" "$office"
} >"$dir/served.toml"
sed "s#192\.0\.2\.11:8443#127.0.0.1:$gate#; s#check port 8082#check port $ready#
    s#bind :443#bind 127.0.0.1:$front#; s#maxconn 20000#maxconn 100#" config/haproxy.cfg >"$dir/haproxy.cfg"
printf 'listen state\n    mode http\n    bind 127.0.0.1:%s\n    stats enable\n    stats uri /\n' "$state" >>"$dir/haproxy.cfg"
"$program" init --data-dir "$dir/served" --environment test >"$dir/init"
"$program" serve --config "$dir/served.toml" 2>"$dir/served.log" &
pids+=($!)
until curl -sf -o /dev/null "http://127.0.0.1:$ready/readyz"; do
    kill -0 "${pids[-1]}" 2>/dev/null || { cat "$dir/served.log" >&2; exit 1; }
    sleep 0.1
done
"$program" key issue --institution Bank --system s --address 127.0.0.2 --output "$dir/served.key" \
    --admin-url "http://127.0.0.1:$office" --admin-token-file "$dir/served/operator-token" >"$dir/issued"
haproxy -f "$dir/haproxy.cfg" >"$dir/error.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do
    curl -s "http://127.0.0.1:$state/;csv" >"$dir/state" || true
    if grep -q '^gateway,gateway-1,.*,UP,.*,L7OK,' "$dir/state"; then break; fi
    sleep 0.1
done
grep '^gateway,gateway-1,.*,UP,.*,L7OK,' "$dir/state" >"$dir/up" || { cat "$dir/state" "$dir/error.log" >&2; exit 1; }
answers="$(through "https://127.0.0.1:$front" "$dir/served.key" 127.0.0.2) $(through "https://127.0.0.1:$front" "$dir/served.key" 127.0.0.3)"
echo "allowed, another: $answers"
[ "$answers" = "200 403" ]

echo "== nginx"
free_port
mkdir "$dir/temp"
temporary=$(printf "%s_temp_path $dir/temp; " client_body proxy fastcgi uwsgi scgi)
sed "s#/etc/nginx/peselgate#$dir/peselgate#; s#/var/log/nginx#$dir#; s#listen 443 #listen 127.0.0.1:$port #
    s#^http {#&\n    $temporary#" config/nginx.conf >"$dir/nginx.conf"
places="pid $dir/nginx.pid; error_log $dir/error.log;"
nginx -t -q -c "$dir/nginx.conf" -g "$places" || { cat "$dir/error.log"; exit 1; }
# No question may go out on a connection that was another's: none is kept, by two words
# of the file, and two callers through one worker, a key for the first one only, show it.
# Addresses of the loopback need no `transparent`.
if grep -E '^ *keepalive +[1-9]' config/nginx.conf; then exit 1; fi
sed -i "s#192\.0\.2\.11:8080#${verification#http://}#; s# transparent;#;#; s#^worker_processes auto;#worker_processes 1;#" "$dir/nginx.conf"
"$program" key issue --institution Bank --system s --address 127.0.0.2 --output "$dir/key" \
    --admin-url "$admin" --admin-token-file "$dir/d/demo-admin-token" >"$dir/issued"
nginx -c "$dir/nginx.conf" -g "$places daemon off;" 2>>"$dir/error.log" &
pids+=($!)
nginx_answers() { through "https://127.0.0.1:$port" "$dir/key" "$1"; }
answers="$(nginx_answers 127.0.0.2) $(nginx_answers 127.0.0.3) $(nginx_answers 127.0.0.2)"
echo "allowed, another, allowed: $answers"
[ "$answers" = "200 403 200" ]

echo "== systemd"
# The service's program is not installed here, so a copy names the one that was built, by
# a path without a space.
ln -s "$program" "$dir/peselgate"
cp config/peselgate.socket "$dir/"
sed "s#/usr/bin/peselgate #$dir/peselgate #" config/peselgate.service >"$dir/peselgate.service"
systemd-analyze verify --recursive-errors=no "$dir/peselgate.socket" "$dir/peselgate.service" 2>"$dir/verify" ||
    { cat "$dir/verify"; exit 1; }
# It says something about other units of the machine, too; about these nothing is to be said.
if grep -E 'peselgate\.(socket|service)' "$dir/verify"; then exit 1; fi
systemd-analyze security --offline=true --threshold=20 --no-pager config/peselgate.service | tail -n 1

echo "== the configuration's example"
"$program" serve --config config/peselgate.example.toml --check-config
PESELGATE_OPS__LISTEN=0.0.0.0:8082 "$program" serve --config config/peselgate.example.toml --check-config
