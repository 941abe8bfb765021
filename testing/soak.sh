#!/bin/sh
# stress-ng in an enclave: each stressor of threads, processes, signals and time for ten seconds, then signals, threads and
# programs together for half an hour. Usage: testing/soak.sh [OCCLUM] [SECONDS EACH] [SECONDS TOGETHER]
set -u
occlum=${1:-occlum} each=${2:-10} together=${3:-1800}
failed=
run() {
    name=$1
    shift
    echo "== $name"
    "$occlum" try --with /usr/bin/stress-ng "$@" || failed="$failed $name"
}
cd /
for stressor in cpu pthread futex pipe sem signal sigq sigsegv timer switch yield mutex vfork sigsuspend sigrt sigfd \
    itimer nanosleep clone wait membarrier affinity clock eventfd; do
    run "$stressor" /usr/bin/stress-ng --temp-path /tmp -t "$each" "--$stressor" 2
done
# These refuse to run as root.
plain="/usr/bin/setpriv --reuid 1000 --regid 1000 --clear-groups /usr/bin/stress-ng --temp-path /tmp"
for stressor in exec spawn; do
    run "$stressor" $plain -t "$each" "--$stressor" 2
done
run "signal, pthread and spawn together" $plain -t "$together" --signal 1 --pthread 1 --spawn 1
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
