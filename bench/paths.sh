#!/bin/sh
# Path validations a second, certdir beside OpenSSL: a root, one authority, a leaf, and a list of each authority; with RSA-2048
# and with P-256 keys, and with 100,000 entries in the authority's list.
#
#     bench/paths.sh [SECONDS]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-2}
work=${BENCH_DIR:-/tmp/bench}/paths
mkdir -p "$work"

authority() { # FOLDER NAME: an openssl ca of this name
    cat > "$1/$2.cnf" <<END
[ca]
default_ca = d
[d]
database = $1/$2.index
crlnumber = $1/$2.number
default_md = sha256
default_crl_days = 7
crl_extensions = x
[x]
authorityKeyIdentifier = keyid
END
    [ -e "$1/$2.index" ] || : > "$1/$2.index"
    echo 01 > "$1/$2.number"
}

make() { # FOLDER KEY: the files
    mkdir -p "$1"
    key() { openssl genpkey $2 -out "$1" 2> /dev/null; }
    for name in root between leaf; do key "$1/$name.key" "$2"; done
    openssl req -x509 -new -key "$1/root.key" -subj /CN=Root -days 30 -out "$1/root.pem" -addext keyUsage=critical,keyCertSign,cRLSign
    printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' > "$1/between.ext"
    printf 'keyUsage=critical,digitalSignature,keyEncipherment,keyAgreement\nextendedKeyUsage=emailProtection\nsubjectAltName=email:alice@example.org\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' > "$1/leaf.ext"
    openssl req -new -key "$1/between.key" -subj /CN=Between -out "$1/between.csr"
    openssl x509 -req -in "$1/between.csr" -CA "$1/root.pem" -CAkey "$1/root.key" -set_serial 2 -days 30 -extfile "$1/between.ext" -out "$1/between.pem" 2> /dev/null
    openssl req -new -key "$1/leaf.key" -subj /CN=Alice -out "$1/leaf.csr"
    openssl x509 -req -in "$1/leaf.csr" -CA "$1/between.pem" -CAkey "$1/between.key" -set_serial 3 -days 30 -extfile "$1/leaf.ext" -out "$1/leaf.pem" 2> /dev/null
    for name in root between; do
        authority "$1" $name
        openssl ca -config "$1/$name.cnf" -gencrl -keyfile "$1/$name.key" -cert "$1/$name.pem" 2> /dev/null |
            openssl crl -outform DER -out "$1/$name.crl"
    done
}

cc -O2 -o "$work/pathblast" "$here/c/pathblast.c" -lcrypto
cargo build -q --release -p certdir-certificate --example validations --manifest-path "$here/../Cargo.toml"
target=${CARGO_TARGET_DIR:-$here/../target}

p256='-algorithm EC -pkeyopt ec_paramgen_curve:prime256v1'
rm -rf "$work/rsa" "$work/p256" "$work/large"
make "$work/rsa" '-algorithm RSA -pkeyopt rsa_keygen_bits:2048'
make "$work/p256" "$p256"
mkdir -p "$work/large"
awk 'BEGIN { for (i = 0; i < 100000; i++) printf "R\t400101000000Z\t260101000000Z\t%08X\tunknown\t/CN=x\n", i * 7 + 1048576 }' > "$work/large/between.index"
make "$work/large" "$p256"

for kind in rsa p256 large; do
    echo "== $kind: certdir"
    taskset -c 1 "$target/release/examples/validations" "$work/$kind" "$seconds"
    echo "== $kind: $(openssl version | cut -d' ' -f1-2)"
    taskset -c 1 "$work/pathblast" "$work/$kind" "$seconds"
done
