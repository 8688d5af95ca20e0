#!/usr/bin/env bash
# The resolver's benchmark, by one command: cached look-ups and what one takes in memory; then, with certdir as the only server,
# 10,000 addresses that are in no cache, looked up by this resolver and, in the same run, by unbound validating the same names.
#
#   bench/resolver.sh             three rounds, one after the other, each with names that nobody asked for before
#   bench/resolver.sh --rounds 1
# Environment: BENCH_DIR (default /tmp/bench; ./run.sh makes the population there), CERTDIR (a built certdir), BENCH_PORT (5401, and the
# next one for unbound). certdir runs on core 0, what is measured on core 1. Needs dnsperf and unbound.
set -euo pipefail
BENCH_DIR=$(realpath -m "${BENCH_DIR:-/tmp/bench}")
cd "$(dirname "$0")"
export PATH="$PATH:/usr/sbin:/sbin"
rounds=3 count=10000 at_once=100 port=${BENCH_PORT:-5401}
if [ "${1:-}" = --rounds ]; then rounds=$2; fi
for tool in dnsperf unbound taskset python3; do
    command -v "$tool" >/dev/null || { echo "resolver.sh: $tool is missing" >&2; exit 1; }
done

cargo build -q --release --locked --manifest-path ../Cargo.toml -p certdir-resolver --examples
target=$(realpath "${CARGO_TARGET_DIR:-../target}")
if [ -z "${CERTDIR:-}" ]; then
    cargo build -q --release --locked --manifest-path ../Cargo.toml
    CERTDIR=$target/release/certdir
fi
CERTDIR=$(realpath "$CERTDIR")
export CERTDIR BENCH_DIR

echo '== cached'
taskset -c 1 "$target/release/examples/cached" 100000

data=$BENCH_DIR/d100k
if [ ! -e "$data/users.tsv" ]; then ./run.sh --prepare; fi
folder=$(python3 -c 'import sys, servers; sys.stdout, out = sys.stderr, sys.stdout; print(servers.certdir_data(sys.argv[1]), file=out)' "$data")
work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap finish EXIT

taskset -c 0 "$CERTDIR" --data "$folder" serve --dns "127.0.0.1:$port" --dns-workers 1 --dns-rate 100000000 \
    --udp-certificates always >"$work/certdir.log" 2>&1 &
pids+=($!)
zone=_smimecert.bench.example
"$CERTDIR" --data "$folder" zone keys bench.example >"$work/anchor.key"
cut -f1 "$data/users.tsv" >"$work/addresses"
cat >"$work/unbound.conf" <<CONF
server:
  interface: 127.0.0.1@$((port + 1))
  do-daemonize: no
  username: ""
  chroot: ""
  directory: $work
  pidfile: $work/pid
  use-syslog: no
  logfile: $work/unbound.log
  do-not-query-localhost: no
  module-config: "validator iterator"
  trust-anchor-file: $work/anchor.key
  num-threads: 1
  outgoing-range: 4096
  num-queries-per-thread: 2048
  edns-buffer-size: 4096
  msg-cache-size: 256m
  rrset-cache-size: 512m
  aggressive-nsec: no
remote-control:
  control-enable: no
stub-zone:
  name: $zone
  stub-addr: 127.0.0.1@$port
CONF
ready() { # ready PORT NAME: waits until a server answers
    local tries
    for tries in $(seq 1 100); do
        if dig +tries=1 +time=1 -p "$1" @127.0.0.1 "$2" SMIMEA >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "resolver.sh: nothing answers on port $1; see $work" >&2
    exit 1
}
ready "$port" "$zone"

for round in $(seq 1 "$rounds"); do
    first=$(((round - 1) * 2 * (count + 100)))
    echo "== cold, round $round"
    printf 'certdir-resolver: '
    taskset -c 1 "$target/release/examples/cold" "127.0.0.1:$port" "$work/anchor.key" "$work/addresses" "$at_once" "$first" "$count"
    # unbound, begun anew, with the keys of the zone warm.
    taskset -c 1 unbound -d -c "$work/unbound.conf" 2>/dev/null &
    unbound=$!
    pids+=("$unbound")
    ready $((port + 1)) "$zone"
    sed -n "$((first + 1)),$((first + 20))p" "$data/users.tsv" | cut -f2 | sed 's/$/ SMIMEA/' >"$work/warm"
    sed -n "$((first + 21)),$((first + 20 + count))p" "$data/users.tsv" | cut -f2 | sed 's/$/ SMIMEA/' >"$work/names"
    dnsperf -s 127.0.0.1 -p $((port + 1)) -d "$work/warm" -n 1 -D >/dev/null
    printf 'unbound: '
    taskset -c 0 dnsperf -s 127.0.0.1 -p $((port + 1)) -d "$work/names" -n 1 -D -m tcp -c 4 -q "$at_once" |
        sed -n 's/^ *\(Queries completed\|Run time (s)\|Queries per second\|Response codes\): */\1 /p' | paste -sd' '
    kill "$unbound"
    wait "$unbound" 2>/dev/null || true
    pids=("${pids[0]}")
done
