#!/usr/bin/env bash
# Give Kubernetes the certificates that deploy/tls/make-certificates.sh made: one secret for each role, with
# that role's key only.  The authority's own key stays here.
#
#   secrets.sh FOLDER [OPTIONS OF KUBECTL, such as --namespace science]
set -euo pipefail

if [ $# -lt 1 ]; then
    echo "usage: $0 FOLDER [OPTIONS OF KUBECTL]" >&2
    exit 2
fi
folder="$1"
shift
for file in ca scheduler scheduler-key worker worker-key client client-key; do
    if [ ! -r "$folder/$file.pem" ]; then
        echo "$0: $folder/$file.pem is missing: make the folder with deploy/tls/make-certificates.sh" >&2
        exit 1
    fi
done
for role in scheduler worker client; do
    kubectl create secret generic "paradual-$role-tls" "$@" \
        --from-file="$folder/ca.pem" --from-file="$folder/$role.pem" --from-file="$folder/$role-key.pem"
done
