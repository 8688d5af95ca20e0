#!/bin/sh
# Makes the certificates of this folder with the openssl command. They are committed, so that tests need no run of
# this; run it again only to change what is in them, then `cargo test -p certdir-certificate` says what differs.
#
# All are valid from 2025-01-01 to 2099-12-31 (UTCTime and GeneralizedTime) but for expired.pem, and x25519.pem, which
# begins when it is made. The private keys are made
# in a folder that is removed at the end: no key is ever committed.
set -eu
cd "$(dirname "$0")"
out=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir issued
: > index.txt
cat > ca.cnf <<'CONF'
[ca]
default_ca = test
[test]
database = index.txt
new_certs_dir = issued
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
email_in_dn = yes
preserve = yes
string_mask = utf8only
[any]
organizationName = optional
domainComponent = optional
commonName = optional
emailAddress = optional
[req]
distinguished_name = none
string_mask = utf8only
utf8 = yes
[none]
CONF

from=20250101000000Z
to=20991231235959Z

# issue NAME SUBJECT <<EXTENSIONS: a certificate for key.pem. Without extensions it has version 1.
issue() {
    cat > extensions.cnf
    extensions=
    if [ -s extensions.cnf ]; then
        { echo '[extensions]'; cat extensions.cnf; } > numbered.cnf
        extensions='-extfile numbered.cnf -extensions extensions'
    fi
    openssl req -new -config ca.cnf -utf8 -key "${request_key:-key.pem}" -subj "$2" -out request.pem
    # shellcheck disable=SC2086
    openssl ca -batch -notext -config ca.cnf -utf8 -cert "${ca:-ca.pem}" -keyfile ca.key -in request.pem \
        -subj "$2" -startdate $from -enddate $to $extensions -out "$out/$1.pem" 2> log || { cat log; exit 1; }
}

new_key() {
    openssl genpkey "$@" -out key.pem 2> /dev/null
}

# The issuer of all, which issues itself first.
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ca.key
cp ca.key key.pem
openssl req -x509 -new -config ca.cnf -key ca.key -subj '/O=Example/CN=Example Test CA' -days 1 -out self.pem
ca=self.pem
issue ca '/O=Example/CN=Example Test CA' <<'EXT'
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
EXT
cp "$out/ca.pem" ca.pem
ca=ca.pem

person='basicConstraints = CA:false
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = emailProtection
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
'

new_key -algorithm RSA -pkeyopt rsa_keygen_bits:2048
{ echo "$person"; echo 'subjectAltName = email:alice@example.org'; } | issue rsa '/O=Example/CN=Alice Adams'

# One key for all that follow and do not need another.
new_key -algorithm EC -pkeyopt ec_paramgen_curve:P-256
agreement='basicConstraints = CA:false
keyUsage = critical, digitalSignature, keyAgreement
extendedKeyUsage = emailProtection
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
'
{ echo "$agreement"; echo 'subjectAltName = email:alice@example.org'; } | issue p256 '/O=Example/CN=Alice Adams'
echo "$agreement" | issue legacy '/O=Example/CN=Lee Gacy/emailAddress=lee@example.org'
{ echo "$agreement"; echo 'subjectAltName = email:dora@example.org, email:Dora.Dual@example.net'; } |
    issue dual '/O=Example/CN=Dora Dual/emailAddress=dora@example.org'
{
    echo "$agreement"
    echo 'subjectAltName = @names'
    echo '[names]'
    echo 'otherName.1 = 1.3.6.1.5.5.7.8.9;FORMAT:UTF8,UTF8:zoë@xn--bcher-kva.example'
    echo 'otherName.2 = 1.3.6.1.4.1.311.20.2.3;UTF8:zoe@windows.example'
} |
    issue smtputf8 '/O=Bücher, Söhne \+ Co/CN=Zoë Żółć'
{ echo "$agreement"; echo 'subjectAltName = email:domain-confidentiality-authority@example.org'; } |
    issue domain-authority '/O=Example/CN=domain-confidentiality-authority'
echo "$agreement" | issue domain-authority-components '/DC=org/DC=example/CN=domain-confidentiality-authority'
{ echo "$agreement"; echo 'subjectAltName = DNS:Example.org, DNS:*.example.org, DNS:mail.example.org, IP:192.0.2.1, URI:https://example.org/'; } |
    issue gateway '/O=Example/CN=example.org'
issue no-usage '/CN=Nora Noext' <<'EXT'
subjectAltName = email:nora@example.org
EXT
issue signing-only '/CN=Sid Signer' <<'EXT'
keyUsage = critical, digitalSignature, nonRepudiation
extendedKeyUsage = emailProtection
subjectAltName = email:sid@example.org
EXT
issue key-agreement-only '/CN=Kay Agree' <<'EXT'
keyUsage = critical, keyAgreement
subjectAltName = email:kay@example.org
EXT
issue tls-server '/CN=www.example.org' <<'EXT'
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:www.example.org, email:web@example.org
EXT
issue any-usage '/CN=Ann Any' <<'EXT'
extendedKeyUsage = clientAuth, anyExtendedKeyUsage
subjectAltName = email:ann@example.org
EXT
issue version-1 '/CN=Vera Versionone/emailAddress=vera@example.org' < /dev/null
# An object identifier with an arc of 128 bits, and one extension that nobody can decode, critical.
issue odd-extensions '/CN=Otto Odd' <<'EXT'
2.25.329800735698586629295641978511506172918 = DER:05:00
1.3.6.1.4.1.99999.1 = critical, DER:ff:ff:ff
subjectAltName = email:otto@example.org
subjectKeyIdentifier = DER:05:00
EXT
{ printf 'subjectAltName = email:huge@example.org'
  i=0; while [ $i -lt 900 ]; do printf ', email:person-%04d.with-a-long-name@department.example.org' $i; i=$((i + 1)); done; } |
    issue huge '/CN=Hugh Huge'
for bad in 'san 2.5.29.17 30:00' 'key-usage 2.5.29.15 03:02:08:80' 'extended-key-usage 2.5.29.37 30:00' \
    'basic-constraints 2.5.29.19 30:03:01:01:01'; do
    # shellcheck disable=SC2086
    set -- $bad
    printf '%s = DER:%s\n' "$2" "$3" | issue "malformed-$1" '/CN=Mal Formed'
done
from=20200101000000Z to=20210101000000Z
{ echo "$agreement"; echo 'subjectAltName = email:eve@example.org'; } | issue expired '/CN=Eve Expired'
from=20250101000000Z to=20991231235959Z

new_key -algorithm EC -pkeyopt ec_paramgen_curve:P-384
{ echo "$agreement"; echo 'subjectAltName = email:bob@example.org'; } | issue p384 '/O=Example/CN=Bob Brown'
new_key -algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP256r1
{ echo "$agreement"; echo 'subjectAltName = email:bernd@example.org'; } | issue brainpool '/CN=Bernd Brainpool'
new_key -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit
{ echo "$agreement"; echo 'subjectAltName = email:ed@example.org'; } | issue explicit-curve '/CN=Ed Explicit'
new_key -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048
{ echo "$person"; echo 'subjectAltName = email:pia@example.org'; } | issue rsa-pss '/CN=Pia Pss'
new_key -algorithm ED25519
issue ed25519 '/CN=Edda Edwards' <<'EXT'
keyUsage = critical, digitalSignature
subjectAltName = email:edda@example.org
EXT
issue ed25519-no-usage '/CN=Edda Edwards' <<'EXT'
subjectAltName = email:edda@example.org
EXT
# A key that cannot sign its own request: the request is signed by another, and the key put in its place.
openssl genpkey -algorithm X25519 -out x.key
openssl pkey -in x.key -pubout -out x.pub
openssl req -new -config ca.cnf -key key.pem -subj '/CN=Xena Exchange' -out request.pem
printf 'keyUsage = critical, keyAgreement\nsubjectAltName = email:xena@example.org\n' > x.cnf
openssl x509 -req -in request.pem -force_pubkey x.pub -CA ca.pem -CAkey ca.key -set_serial 0x80ff \
    -days 27000 -extfile x.cnf -out "$out/x25519.pem" 2> /dev/null

# Algorithms that this openssl does not know, made of ASN.1 by hand. The keys and signatures are only octets.
made_by_hand() { # NAME KEY_OID SIGNATURE_OID
    cat > hand.cnf <<CONF
asn1 = SEQUENCE:certificate
[certificate]
tbs = SEQUENCE:tbs
algorithm = SEQUENCE:signature_algorithm
signature = FORMAT:HEX,BITSTRING:00112233445566778899aabbccddeeff
[tbs]
version = EXPLICIT:0,INTEGER:2
serial = INTEGER:0x0123456789abcdef
algorithm = SEQUENCE:signature_algorithm
issuer = SEQUENCE:name
validity = SEQUENCE:validity
subject = SEQUENCE:name
key = SEQUENCE:key
extensions = EXPLICIT:3,SEQUENCE:extensions
[signature_algorithm]
oid = OID:$3
[key_algorithm]
oid = OID:$2
[key]
algorithm = SEQUENCE:key_algorithm
key = FORMAT:HEX,BITSTRING:0102030405060708
[name]
only = SET:relative
[relative]
only = SEQUENCE:common_name
[common_name]
oid = OID:2.5.4.3
value = UTF8:Quentin Quantum
[validity]
from = UTCTIME:250101000000Z
to = GENERALIZEDTIME:20991231235959Z
[extensions]
names = SEQUENCE:names
[names]
oid = OID:2.5.29.17
value = OCTWRAP,SEQUENCE:general_names
[general_names]
mail = IMPLICIT:1,IA5STRING:quentin@example.org
CONF
    openssl asn1parse -noout -genconf hand.cnf -out hand.der
    openssl base64 -in hand.der > hand.b64
    { echo '-----BEGIN CERTIFICATE-----'; cat hand.b64; echo '-----END CERTIFICATE-----'; } > "$out/$1.pem"
}
made_by_hand ml-dsa 2.16.840.1.101.3.4.3.18 2.16.840.1.101.3.4.3.18
made_by_hand ml-kem 2.16.840.1.101.3.4.4.2 2.16.840.1.101.3.4.3.18
made_by_hand slh-dsa 2.16.840.1.101.3.4.3.24 2.16.840.1.101.3.4.3.24
made_by_hand unknown-algorithm 1.3.6.1.4.1.99999.7 1.3.6.1.4.1.99999.8

# Things that are no certificate, or more than one.
openssl x509 -in "$out/p256.pem" -outform DER -out "$out/p256.der"
head -c 400 "$out/p256.der" > "$out/truncated.der"
cp request.pem "$out/request.pem"
openssl req -in request.pem -outform DER -out "$out/request.der"
openssl ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -gencrl -crldays 3650 -out crl.pem 2> /dev/null
openssl crl -in crl.pem -outform DER -out "$out/crl.der"
openssl crl2pkcs7 -nocrl -certfile "$out/p256.pem" -outform DER -out "$out/certificates.p7b"
openssl pkey -in x.key -pubout -outform DER -out "$out/public-key.der"
{
    echo 'A chain as people keep it: text, blocks of other kinds, Windows line ends.'
    openssl x509 -in "$out/p256.pem" -text
    cat request.pem
    sed 's/$/\r/' "$out/ca.pem"
    cat "$out/rsa.pem"
} > "$out/bundle.pem"
