#!/bin/sh
# Makes every hash of owner-names.txt again, with sha256sum; says how many, or which one differs.
set -eu
cd "$(dirname "$0")"
checked=0
local_hex=''
while IFS= read -r line; do
    case $line in
    'local-hex: '*) local_hex=${line#local-hex: } ;;
    'owner: '*)
        # POSIX printf knows octal escapes only.
        octets=$(printf '%s' "$local_hex" | sed 's/../& /g')
        format=''
        for octet in $octets; do
            format="$format\\$(printf '%03o' "0x$octet")"
        done
        # The format holds nothing but octal escapes.
        # shellcheck disable=SC2059
        hash=$(printf "$format" | sha256sum | cut -c 1-56)
        owner=${line#owner: }
        if [ "${owner%%.*}" != "$hash" ]; then
            echo "local part $local_hex: sha256sum gives $hash, the file has $owner" >&2
            exit 1
        fi
        checked=$((checked + 1))
        ;;
    esac
done <owner-names.txt
echo "$checked hashes are right"
