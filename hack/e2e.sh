#!/usr/bin/env bash
# Runs the end-to-end tests on a lab of their own, and removes it afterwards, also when a test failed or was interrupted.
# KEEP_LAB=1 leaves it up. Arguments go to the test program, for example -test.run TestSamples.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${LAB_NAME:-e2e}
[ -n "${KEEP_LAB:-}" ] || trap 'bin/lab down --name "$name"' EXIT
trap 'exit 130' INT TERM

make --no-print-directory bin/promtool
bin/lab up --name "$name"
hack/deploy.sh "$name"
CGO_ENABLED=0 go build -trimpath -o bin/kubectl-meshprobe ./cmd/kubectl-meshprobe
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/oddserver ./test/e2e/oddserver
go test -trimpath -c -o bin/e2e.test ./test/e2e
# In a subshell: the traps above speak of paths from here.
(cd test/e2e && MESHPROBE_LAB=$name MESHPROBE_PLUGIN=$PWD/../../bin/kubectl-meshprobe MESHPROBE_ODDSERVER=$PWD/../../bin/oddserver \
    ../../bin/lab exec --name "$name" -- ../../bin/e2e.test -test.v -test.parallel 4 -test.timeout 30m "$@")
