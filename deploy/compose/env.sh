#!/bin/sh
# Prints an .env for Compose: .env.example, with a random value for each secret that it leaves empty.
#
#   sh deploy/compose/env.sh > .env
set -eu
umask 077
cd "$(dirname "$0")/../.."

# Hexadecimal, so that it needs no escaping in a URL.
secret() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

while IFS= read -r line; do
    case $line in
    *_PASSWORD= | *_SECRET= | *_TOKEN=) printf '%s%s\n' "$line" "$(secret)" ;;
    *) printf '%s\n' "$line" ;;
    esac
done <.env.example
