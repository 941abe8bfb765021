#!/bin/sh
# stress-ng in an enclave: each stressor of threads, processes, signals and time for a while, then signals, threads and programs
# together, then what forks together with a shell that starts programs. The last two run in one enclave each, whose memory,
# descriptors and threads are looked at when it is warm and at the end: they may not grow.
# Usage: testing/soak.sh [OCCLUM] [SECONDS EACH] [SECONDS TOGETHER] [SECONDS OF FORKING]; 0 leaves a part out.
# The long ones: testing/soak.sh target/release/occlum 10 1800 1200
set -u
occlum=${1:-occlum} each=${2:-10} together=${3:-1800} forking=${4:-1200}
failed=
stress=/usr/bin/stress-ng
# Some stressors refuse to run as root.
mark=$(mktemp -d /var/tmp/occlum-soak-XXXXXX)
chmod 777 "$mark"
trap 'rm -rf "$mark"' EXIT
plain="/usr/bin/setpriv --reuid 1000 --regid 1000 --clear-groups"

run() {
    name=$1
    shift
    echo "== $name"
    "$occlum" try --with $stress "$@" || failed="$failed $name"
}

# "resident KiB, threads, descriptors" of a process.
held() {
    echo "$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p; s/^Threads:[^0-9]*\([0-9]*\)/\1/p' "/proc/$1/status" | tr '\n' ' ')" \
        "$(ls "/proc/$1/fd" | wc -l)"
}

# A shell script in one enclave. It creates $mark/warm when it is warm, and $mark/end at its end, where it waits for $mark/stop.
soak() {
    name=$1 seconds=$2 script=$3
    echo "== $name, $seconds seconds"
    rm -f "$mark"/*
    "$occlum" try --with $stress --with /usr/bin/setpriv --mount "$mark:$mark:rw" /bin/sh -c \
        "$script; status=\$?; touch $mark/end; while [ ! -e $mark/stop ]; do sleep 1; done; exit \$status" &
    pid=$!
    while [ ! -e "$mark/warm" ] && kill -0 $pid; do sleep 1; done
    warm=$(held $pid)
    while [ ! -e "$mark/end" ] && kill -0 $pid; do sleep 1; done
    end=$(held $pid)
    touch "$mark/stop"
    wait $pid || failed="$failed $name"
    echo "KiB, threads, descriptors when warm: $warm; at the end: $end"
    set -- $warm $end
    # 32 MiB of leftover pages and a few pooled threads are no leak.
    if [ $# -ne 6 ] || [ "$4" -gt $(($1 + 65536)) ] || [ "$5" -gt $(($2 + 16)) ] || [ "$6" -gt $(($3 + 16)) ]; then
        failed="$failed $name:leak"
    fi
}

cd /
if [ "$each" -gt 0 ]; then
    for stressor in cpu pthread futex pipe sem signal sigq sigsegv timer switch yield mutex vfork sigsuspend sigrt sigfd \
        itimer nanosleep clone wait membarrier affinity clock eventfd; do
        run "$stressor" $stress --temp-path /tmp -t "$each" "--$stressor" 2
    done
    for stressor in exec spawn; do
        run "$stressor" $plain $stress --temp-path /tmp -t "$each" "--$stressor" 2
    done
fi
if [ "$together" -gt 0 ]; then
    part="$plain $stress --temp-path /tmp --signal 1 --pthread 1 --spawn 1"
    soak "signal, pthread and spawn together" "$together" "$part -t 5 && touch $mark/warm && $part -t $together"
fi
if [ "$forking" -gt 0 ]; then
    part="$plain $stress --temp-path /tmp --fork 1 --vfork 1 --exec 1 --clone 1 --zombie 1"
    loop="until [ -e /tmp/over ]; do echo \$(/bin/true && echo x | cat) > /dev/null; done"
    soak "fork, vfork, exec, clone, zombie and a shell together" "$forking" \
        "$part -t 60 && touch $mark/warm && { ($loop) & $part -t $forking; status=\$?; touch /tmp/over; wait; (exit \$status); }"
fi
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
