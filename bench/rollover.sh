#!/bin/bash
# Reissue to verdict: how soon a gateway that watches many addresses has a new certificate, by DNS Push and by the change feed.
#
#   bench/rollover.sh [WATCHED [REISSUES]]      10,000 and 1,000 without them
#
# Builds the program and resolver-client/examples/rollover.rs, runs both on loopback, each way with a directory of its own,
# and prints one line for each.
set -eu
cd "$(dirname "$0")/.."
watched=${1:-10000} reissues=${2:-1000}
target=${CARGO_TARGET_DIR:-target} profile=${PROFILE:-release}
[ "$profile" = debug ] || flags=--release
cargo build -q ${flags:-} --bin certdir
cargo build -q ${flags:-} -p certdir-resolver --example rollover
work=$(mktemp -d) server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT

for way in push feed; do
    data=$work/$way
    certdir="$target/$profile/certdir --data $data"
    $certdir domain add example.org > /dev/null
    $certdir zone keys example.org > "$work/anchor"
    token=$($certdir token add --role admin --name bench)
    $certdir serve --dns 127.0.0.1:0 --dot 127.0.0.1:0 --http 127.0.0.1:0 --ldap 127.0.0.1:0 > "$work/said" 2> "$work/errors" &
    server=$!
    until grep -q '^ready' "$work/said"; do
        kill -0 "$server" || { cat "$work/said" "$work/errors"; exit 1; }
        sleep 0.1
    done
    port() { awk -v what="$1" '$1 == "listening" && $2 == what { sub(/.*:/, "", $NF); print $NF; exit }' "$work/said"; }
    "$target/$profile/examples/rollover" "$way" 127.0.0.1 "$(port dns)" "$(port dot)" "$(port http)" "$work/anchor" \
        "$data/tls/self-signed.pem" "$token" example.org "$watched" "$reissues"
    kill "$server"
    wait "$server" || true
    server=
done
