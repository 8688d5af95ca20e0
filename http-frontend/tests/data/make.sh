#!/bin/sh
# Makes the certificates of the tests anew (the private keys are thrown away). Golden files then change: UPDATE_GOLDEN=1.
set -eu
out=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir new && : > index.txt && echo 1000 > serial
cat > ca.cnf <<'EOF'
[ca]
default_ca = test
[test]
database = index.txt
new_certs_dir = new
serial = serial
policy = any
default_md = sha256
unique_subject = no
certificate = ca.pem
private_key = ca.key
[any]
organizationName = optional
commonName = optional
[req]
distinguished_name = dn
[dn]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
EOF
key() { openssl genpkey -quiet -algorithm "$2" -pkeyopt "$3" -out "$1.key"; }
# issue NAME SUBJECT SAN START END [ALGORITHM OPTION]
issue() {
  key "$1" "${6:-EC}" "${7:-ec_paramgen_curve:P-256}"
  openssl req -new -utf8 -config ca.cnf -key "$1.key" -subj "$2" -out "$1.csr"
  printf 'keyUsage=critical,keyEncipherment,keyAgreement\nextendedKeyUsage=emailProtection\n%s\n' "${3:+subjectAltName=$3}" > ext
  openssl ca -batch -utf8 -config ca.cnf -extfile ext -startdate "$4" -enddate "$5" -in "$1.csr" -notext -out "$1.pem" 2> log || { cat log; exit 1; }
}
key ca EC ec_paramgen_curve:P-256
openssl req -x509 -new -config ca.cnf -extensions authority -key ca.key -subj '/O=Example Org/CN=Example CA' -days 20000 -out ca.pem
issue alice-2026 '/O=Example Org/CN=Alice Example' email:alice@example.org 20260101000000Z 20280101000000Z
issue alice-2027 '/O=Example Org/CN=Alice Example' email:Alice@example.org 20270101000000Z 20290101000000Z
issue bob-rsa '/CN=Bob' email:bob@example.org 20260101000000Z 20290101000000Z RSA rsa_keygen_bits:2048
issue bob-ec '/CN=Bob' email:bob@example.org 20260601000000Z 20290101000000Z
issue gateway '/O=Example Org/CN=Mail gateway' DNS:example.org 20260101000000Z 20290101000000Z
issue mallory '/CN=<script>alert(1)<\/script>"&' email:mallory@example.org 20260101000000Z 20290101000000Z
issue expired '/CN=Dora' email:dora@example.org 20200101000000Z 20210101000000Z
issue short '/CN=Erin' email:erin@example.org 20260101000000Z 20270115080100Z
issue foreign '/CN=Carol' email:carol@example.com 20260101000000Z 20290101000000Z
issue net '/CN=Nora' email:nora@example.net 20260101000000Z 20290101000000Z
cp ca.pem alice-2026.pem alice-2027.pem bob-rsa.pem bob-ec.pem gateway.pem mallory.pem expired.pem short.pem foreign.pem net.pem "$out"
