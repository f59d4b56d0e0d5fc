#!/usr/bin/env bash
# Make a certificate authority for one Dask cluster, certificates for its scheduler, workers and clients, and
# the Dask settings that require them.
#
#   make-certificates.sh FOLDER [DAYS]        (DAYS of validity: 365 unless given)
#
# Needs openssl and the GNU tools.  FOLDER must not exist.  To renew, or to lock out everyone who has a
# certificate, make a new one.
set -euo pipefail
umask 077

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: $0 FOLDER [DAYS]" >&2
    exit 2
fi
days="${2:-365}"
if [[ ! "$days" =~ ^[1-9][0-9]{0,4}$ ]]; then
    echo "$0: DAYS must be a whole number from 1 to 99999, not '$days'" >&2
    exit 2
fi
if ! command -v openssl >/dev/null; then
    echo "$0: openssl is not installed (Debian: apt-get install openssl)" >&2
    exit 1
fi
folder="$(realpath -m -- "$1")"
if [[ ! "$folder" =~ ^[-A-Za-z0-9_./\ ]+$ ]]; then # it is written into a YAML file
    echo "$0: the path of FOLDER may have letters, digits, spaces and - _ . / only: $folder" >&2
    exit 2
fi
if [ -e "$folder" ]; then
    echo "$0: $folder exists, and its keys may be in use: name a new folder" >&2
    exit 1
fi
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
settings="$(<"$here/dask.yaml")"

# All is made beside the folder and then moved: there is never half of it.
mkdir -p -- "$(dirname -- "$folder")"
new="$(mktemp -d -- "$folder.XXXXXX")"
trap 'rm -rf -- "$new"' EXIT
cd -- "$new"

key() { # NAME: a private key that only its owner can read (the umask)
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.pem"
}

cat >extensions.cnf <<'END'
[req]
distinguished_name = name
prompt = no
[name]
CN = Dask cluster authority
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[scheduler]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:scheduler
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[worker]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:worker
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
# A client only ever connects: with its certificate nobody can pose as a scheduler or a worker.
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectAltName = DNS:client
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END

key ca-key
openssl req -x509 -new -sha256 -key ca-key.pem -days "$days" \
    -config extensions.cnf -extensions authority -out ca.pem
for role in scheduler worker client; do
    key "$role-key"
    openssl req -new -sha256 -key "$role-key.pem" \
        -config extensions.cnf -subj "/CN=Dask $role" -out "$role.csr"
    serial="0x$(openssl rand -hex 16)"
    openssl x509 -req -sha256 -in "$role.csr" -days "$days" \
        -CA ca.pem -CAkey ca-key.pem -set_serial "$serial" \
        -extfile extensions.cnf -extensions "$role" -out "$role.pem" 2>log || { cat log >&2 && exit 1; }
    openssl verify -CAfile ca.pem "$role.pem" >/dev/null
done
rm -- *.csr extensions.cnf log
printf '%s\n' "${settings//\/etc\/dask\/tls\//"$folder/"}" >dask.yaml
chmod 0644 ca.pem scheduler.pem worker.pem client.pem dask.yaml
chmod 0600 ./*-key.pem
mv -T -- "$new" "$folder"
trap - EXIT

cat <<END
$folder
  dask.yaml                              export DASK_CONFIG="$folder/dask.yaml"
  ca.pem                                 to every machine
  scheduler.pem, scheduler-key.pem       to the machine of the scheduler
  worker.pem, worker-key.pem             to those of the workers
  client.pem, client-key.pem             to whoever may use the cluster
  ca-key.pem                             signs new certificates: to no machine; keep it offline or delete it
END
