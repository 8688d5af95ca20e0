#!/usr/bin/env bash
# Everything that must hold before a change goes in: formatting, lints, documentation, licences, all tests.
# The tests drive the built program with real clients (dig, delv, ldapsearch, gpgsm, curl, openssl ...). Clients
# that are missing are installed with apt, without starting any service they bring; where one cannot be had, this
# script fails: a test that cannot run has not passed.
#
#   ./check.sh             everything
#   ./check.sh clients     only make sure that the clients are there
set -euo pipefail
cd "$(dirname "$0")"

# The command a test calls, or the file it reads, and the Debian package that brings it.
CLIENTS='
dig              bind9-dnsutils
delv             bind9-dnsutils
named-checkzone  bind9-utils
dnssec-verify    bind9-utils
kzonecheck       knot-dnssecutils
ldns-verify-zone ldnsutils
unbound          unbound
kdig             knot-dnsutils
dnsviz           dnsviz
nsec3dig         pdns-tools
/usr/bin/python3 python3
/usr/lib/python3/dist-packages/dns/dnssec.py            python3-dnspython
/usr/lib/python3/dist-packages/cryptography/__init__.py python3-cryptography
kresd            knot-resolver
named            bind9
nsd              nsd
knotd            knot
named-checkconf  bind9-utils
dnssec-signzone  bind9-utils
dnssec-keygen    bind9-utils
dnssec-dsfromkey bind9-utils
ldapsearch       ldap-utils
slapd            slapd
gpgsm            gpgsm
gpgconf          gpgconf
dirmngr          dirmngr
dirmngr-client   dirmngr
openssl          openssl
curl             curl
faketime         faketime
sqlite3          sqlite3
cc               gcc
git              git
'

began=$SECONDS
step_began=$SECONDS
heading=''

step() { # step HEADING COMMAND...: run it under a heading, and say how long it took
    heading=$1
    shift
    step_began=$SECONDS
    printf '\n== %s\n' "$heading"
    "$@"
    printf '== %s: %d s\n' "$heading" $((SECONDS - step_began))
}

finish() {
    local code=$?
    restore_policy
    if [ "$code" -ne 0 ]; then
        printf '\ncheck.sh: FAILED in "%s" after %d s\n' "$heading" $((SECONDS - began)) >&2
    fi
}
trap finish EXIT

# Services: Debian's packages start what they install unless /usr/sbin/policy-rc.d says no (exit code 101). Ours is
# there only while apt runs; one that was there before is put back.
POLICY=/usr/sbin/policy-rc.d
policy_is_ours=''
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

forbid_services() {
    policy_is_ours=yes
    if [ -e "$POLICY" ]; then as_root mv "$POLICY" "$POLICY.before-check"; fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
    as_root chmod 755 "$POLICY"
}

restore_policy() {
    if [ -z "$policy_is_ours" ]; then return; fi
    policy_is_ours=''
    as_root rm -f "$POLICY"
    if [ -e "$POLICY.before-check" ]; then as_root mv "$POLICY.before-check" "$POLICY"; fi
}

# Daemons live in /usr/sbin, which is not on every user's path.
export PATH="$PATH:/usr/sbin:/sbin"

missing_packages() {
    while read -r client package; do
        if [ -n "$client" ] && [ ! -e "$client" ] && ! command -v "$client" >/dev/null; then echo "$package"; fi
    done <<<"$CLIENTS" | sort -u
}

clients() {
    local packages
    packages=$(missing_packages)
    if [ -z "$packages" ]; then
        echo 'all there'
        return
    fi
    echo "installing with apt, without starting any service:" $packages
    if ! command -v apt-get >/dev/null; then
        echo "check.sh: there is no apt-get here; install what these Debian packages hold:" $packages >&2
        return 1
    fi
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        echo "check.sh: run as root, or install sudo, or install these packages:" $packages >&2
        return 1
    fi
    forbid_services
    as_root apt-get update -q
    # shellcheck disable=SC2086 # one word per package
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
    restore_policy
    hash -r
    packages=$(missing_packages)
    if [ -n "$packages" ]; then
        echo "check.sh: still missing after the installation:" $packages >&2
        return 1
    fi
}

# The map in each lib.rs links to private modules, which are documented here, too.
documentation() {
    RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --locked --workspace --no-deps --document-private-items
}

# cargo-deny adds the advisory database to what tests/house.rs checks by itself (licences, sources, doubled stacks).
# Compiling it takes longer than all the rest, so it runs where it is installed: cargo install --locked cargo-deny
supply_chain() {
    if command -v cargo-deny >/dev/null; then
        cargo deny --workspace --locked check
    else
        echo 'cargo-deny is not installed: no look-up of advisories here (tests/house.rs checks licences and duplicates)'
    fi
}

if ! command -v cargo >/dev/null; then
    echo 'check.sh: cargo is missing; install Rust from https://rustup.rs (rust-version is in Cargo.toml)' >&2
    exit 1
fi

step 'real clients' clients
if [ "${1:-}" = clients ]; then exit 0; fi
step 'format' cargo fmt --all --check
step 'lints' cargo clippy --locked --workspace --all-targets -- -D warnings
step 'documentation' documentation
step 'supply chain' supply_chain
step 'tests' cargo test --locked --workspace --no-fail-fast
printf '\ncheck.sh: all passed in %d s\n' $((SECONDS - began))
