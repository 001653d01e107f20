#!/usr/bin/env bash
# Installs, upgrades and removes the operator on a lab of its own, by kustomize and by Helm, and removes the lab afterwards,
# also when a test failed or was interrupted. KEEP_LAB=1 leaves it up. Arguments go to the test program.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${LAB_NAME:-install}
work=$(mktemp -d)
leave() {
  rm -rf "$work"
  [ -n "${KEEP_LAB:-}" ] || bin/lab down --name "$name"
}
trap leave EXIT
trap 'exit 130' INT TERM

make --no-print-directory bin/helm
bin/lab up --name "$name"
bin/lab image -o "$work/operator.tar" >/dev/null
bin/lab load --name "$name" "$work/operator.tar" >/dev/null
kubectl=$(bin/lab assets)/kubectl
go test -trimpath -c -o bin/install.test ./test/install
(cd test/install && MESHPROBE_LAB=$name KUBECTL=$kubectl ../../bin/lab exec --name "$name" -- ../../bin/install.test -test.v -test.timeout 15m "$@")
