#!/bin/sh
# Prints every secret that the overlay refers to, with random values. Apply it once, before the overlay:
#
#   kubectl create namespace logue
#   sh deploy/k8s/overlays/local/secrets.sh | kubectl create --filename -
set -eu

# Hexadecimal, so that it needs no escaping in a URL.
random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

secret() {
    name=$1
    shift
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: { name: %s, namespace: logue }\nstringData:\n' "$name"
    printf '  %s\n' "$@"
}

owner=$(random)
secret internal-api "token: \"$(random)\""
secret event-ids "secret: \"$(random)\""
secret token-signing "secret: \"$(random)\""
secret model 'api-key: none'
secret database-superuser "password: \"$(random)\""
secret database-owner "password: \"$owner\"" "uri: postgresql://logue_owner:$owner@postgres/logue"
secret database-api "password: \"$(random)\""
secret database-writer "password: \"$(random)\""
secret database-relay "password: \"$(random)\""
