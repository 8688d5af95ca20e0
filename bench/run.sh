#!/usr/bin/env bash
# The benchmark, by one command: certdir beside Knot, NSD, BIND and PowerDNS in one run. Results: JSON lines and a Markdown table in
# $BENCH_DIR/results. Ends with code 1 when any server gave a wrong answer. Meant for a Debian machine with nothing else to do.
#
#   ./run.sh                  the whole table, 100,000 certificates: about 20 minutes (the first time some more: the population)
#   ./run.sh --quick          the same in about 5 minutes
#   ./run.sh --million        memory, start and rates with 1,000,000 certificates
#   ./run.sh --only 'tcp|dot' --servers certdir,nsd --rounds 3 --secs 2
#   ./run.sh --size 10000     another population
#   ./run.sh --prepare        only install, build and make the population
# Rows: hit hit1232 fit1232 miss-chain miss-live tcp dot hit2 hit-cold tcp-cold start memory update.
# Other options: python3 dnsbench.py --help.
# Environment: BENCH_DIR (default /tmp/bench), CERTDIR (a built certdir; default: cargo build --release), BENCH_PORT (5301 and the next five).
set -euo pipefail
BENCH_DIR=$(realpath -m "${BENCH_DIR:-/tmp/bench}")
if [ -n "${CERTDIR:-}" ]; then CERTDIR=$(realpath "$CERTDIR"); fi
export BENCH_DIR PATH="$PATH:/usr/sbin:/sbin"
cd "$(dirname "$0")"

# The command that is needed, and the Debian package that brings it.
NEEDED='
knotd            knot
kzonesign        knot-dnssecutils
nsd              nsd
named            bind9
dnssec-signzone  bind9-utils
pdns_server      pdns-server
pdnsutil         pdns-server
dnsperf          dnsperf
ldapsearch       ldap-utils
openssl          openssl
gcc              gcc
taskset          util-linux
python3          python3
'

size=100000 million='' prepare='' options=()
while [ $# -gt 0 ]; do
    case $1 in
    --size) size=$2; shift ;;
    --million) million=yes ;;
    --prepare) prepare=yes ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit ;;
    *) options+=("$1") ;;
    esac
    shift
done

# Services: Debian's packages start what they install unless /usr/sbin/policy-rc.d says no (exit code 101). Ours is there only while
# apt runs; one that was there before is put back.
POLICY=/usr/sbin/policy-rc.d
policy_is_ours=''
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
restore_policy() {
    if [ -z "$policy_is_ours" ]; then return; fi
    policy_is_ours=''
    as_root rm -f "$POLICY"
    if [ -e "$POLICY.before-bench" ]; then as_root mv "$POLICY.before-bench" "$POLICY"; fi
}
trap restore_policy EXIT

missing_packages() {
    while read -r command package; do
        if [ -n "$command" ] && ! command -v "$command" >/dev/null; then echo "$package"; fi
    done <<<"$NEEDED" | sort -u
    if [ ! -e /usr/include/openssl/ssl.h ]; then echo libssl-dev; fi
    if [ ! -e /usr/include/stdio.h ]; then echo libc6-dev; fi
    if ! ls /usr/lib/*/pdns/liblmdbbackend.so >/dev/null 2>&1; then echo pdns-backend-lmdb; fi
    if ! python3 -c 'import cryptography' 2>/dev/null; then echo python3-cryptography; fi
}

packages=$(missing_packages)
if [ -n "$packages" ]; then
    echo "installing with apt, without starting any service:" $packages
    if [ -e "$POLICY" ]; then as_root mv "$POLICY" "$POLICY.before-bench"; fi
    policy_is_ours=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
    as_root chmod 755 "$POLICY"
    as_root apt-get update -q
    # shellcheck disable=SC2086 # one word per package
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
    restore_policy
    hash -r
    packages=$(missing_packages)
    if [ -n "$packages" ]; then echo "run.sh: still missing:" $packages >&2; exit 1; fi
fi

mkdir -p "$BENCH_DIR/bin" "$BENCH_DIR/results"
for tool in udpblast udpecho udpserve ldapecho; do gcc -O2 -o "$BENCH_DIR/bin/$tool" "c/$tool.c"; done
for tool in streamblast streamecho; do gcc -O2 -o "$BENCH_DIR/bin/$tool" "c/$tool.c" -lssl -lcrypto; done
CARGO_TARGET_DIR=$BENCH_DIR/target cargo build -q --release --locked --manifest-path signrate/Cargo.toml
cp "$BENCH_DIR/target/release/signrate" "$BENCH_DIR/bin/"
if [ -z "${CERTDIR:-}" ]; then
    cargo build --release --locked --manifest-path ../Cargo.toml
    CERTDIR=${CARGO_TARGET_DIR:-../target}/release/certdir
fi
export CERTDIR

if [ -n "$million" ]; then
    data=$BENCH_DIR/d1m
    make=(-n 1000000 --kind ecdsa)
elif [ "$size" = 100000 ]; then
    data=$BENCH_DIR/d100k
    make=(-n 100000)
else
    data=$BENCH_DIR/d$size
    make=(-n "$size")
fi
if [ ! -e "$data/users.tsv" ] || [ ! -e "$data/upd.tsv" ]; then
    echo "making a population in $data ..."
    python3 gen.py "${make[@]}" -o "$data"
fi
python3 gen.py --complete -o "$data"
# Signatures of dnssec-signzone hold for 30 days, those of kzonesign for 14.
if [ -z "$(find "$data" -maxdepth 1 -name bench.example.zone.signed -mtime -10)" ]; then
    echo "signing $data/bench.example.zone ..."
    FAST=$million ./sign.sh "$data"
fi
if [ -n "$prepare" ]; then
    python3 dnsbench.py --data "$data" --out /dev/null --prepare ${million:+--million} "${options[@]}"
    exit
fi

out=$BENCH_DIR/results/$(date +%Y%m%d-%H%M%S).jsonl
code=0
python3 dnsbench.py --data "$data" --out "$out" ${million:+--million} "${options[@]}" || code=$?
python3 table.py "$out" | tee "${out%.jsonl}.md"
echo "results: $out, table: ${out%.jsonl}.md"
exit $code
