#!/bin/sh
# A thousand connections at full speed against nginx and redis-server in an enclave, half of the time each, and the same for ten
# seconds natively. Fails when a connection gets stuck or breaks, or descriptors or memory leak. What 99 of 100 requests wait at
# most is printed for both worlds. Usage: testing/load.sh [OCCLUM] [SECONDS]
set -eu
occlum=${1:-occlum} seconds=${2:-300}
connections=1000
failed=
ulimit -n "$(ulimit -H -n)"
# Not under /tmp, where an enclave has a file system of its own.
folder=$(mktemp -d /var/tmp/occlum-load-XXXXXX)
server=
# shellcheck disable=SC2329
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' INT TERM

head -c 10240 /dev/urandom >"$folder/page"
cat >"$folder/nginx.conf" <<END
daemon off; master_process off; pid $folder/nginx.pid; error_log stderr;
worker_rlimit_nofile 8192; events { worker_connections 4096; }
http { access_log off; sendfile on; keepalive_requests 1000000000;
       server { listen 127.0.0.1:18080 backlog=4096; root $folder; }
       client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3; uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5; }
END
cd "$folder"

# Starts a server that listens on a port: PORT COMMAND...
start() {
    port=$1
    shift
    "$@" >"$folder/output" 2>&1 &
    server=$!
    tries=0
    until ss -Hltn "sport = :$port" | grep -q .; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ] || ! kill -0 "$server" 2>/dev/null; then
            cat "$folder/output"
            exit 1
        fi
        sleep 0.1
    done
}

stop() {
    kill "$server"
    wait "$server" || true
    server=
}

descriptors() { find "/proc/$server/fd" | wc -l; }
memory() { awk '/^Rss:/ { print $2 }' "/proc/$server/smaps_rollup"; }

# Loads a server and prints the 99th percentile: KIND PORT SECONDS
load() {
    if [ "$1" = nginx ]; then
        wrk -c "$connections" -t 2 -d "$3" --timeout 30 --latency "http://127.0.0.1:$2/page" >"$folder/load"
        grep -E 'requests in|Socket errors|Non-2xx' "$folder/load" >&2
        ! grep -qE 'Socket errors|Non-2xx' "$folder/load" || echo "broken" >"$folder/broken"
        awk '$1 == "99%" { print $2 }' "$folder/load"
    else
        : >"$folder/load"
        end=$(($(date +%s) + $3))
        while [ "$(date +%s)" -lt "$end" ]; do
            timeout 120 redis-benchmark -p "$2" -c "$connections" -n 300000 -t set,get --csv >>"$folder/load" || {
                echo "redis-benchmark does not end" >"$folder/broken"
                break
            }
        done
        # The sixth column of numbers is that of 99 %.
        awk -F '"' '/^"[SG]ET"/ { rate += $4; if ($14 > most) most = $14; n++ }
            END { printf "%d requests a second\n", rate / n >"/dev/stderr"; print most "ms" }' "$folder/load"
    fi
}

# Runs a kind of server in both worlds: KIND PORT COMMAND...
try() {
    kind=$1 port=$2
    shift 2
    echo "== $kind, native"
    start "$port" "$@"
    native=$(load "$kind" "$port" 10)
    stop
    echo "== $kind, enclave"
    start "$port" "$occlum" try --mount "$folder:$folder:rw" "$@"
    # What is made at first use is no leak.
    load "$kind" "$port" 5 >/dev/null
    sleep 2
    before="$(descriptors) $(memory)"
    enclave=$(load "$kind" "$port" "$((seconds / 2))")
    sleep 2
    after="$(descriptors) $(memory)"
    left=$(ss -Htn state established "sport = :$port" | wc -l)
    stop
    echo "99 % of requests wait at most: native $native, enclave $enclave"
    echo "descriptors and KiB of memory: before $before, after $after; connections left: $left"
    [ ! -e "$folder/broken" ] || failed="$failed $kind:$(cat "$folder/broken")"
    rm -f "$folder/broken"
    [ "${before% *}" = "${after% *}" ] || failed="$failed $kind:descriptors"
    [ "${after#* }" -lt $((${before#* } * 11 / 10)) ] || failed="$failed $kind:memory"
    [ "$left" = 0 ] || failed="$failed $kind:connections"
}

try nginx 18080 /usr/sbin/nginx -p "$folder" -c nginx.conf -e stderr
try redis 16379 /usr/bin/redis-server --port 16379 --bind 127.0.0.1 --save "" --maxclients 4000 --tcp-backlog 4096
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
