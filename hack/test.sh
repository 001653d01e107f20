#!/usr/bin/env bash
# Runs every test that this machine can run, says how long each part took, and names what it could not run.
set -euo pipefail
cd "$(dirname "$0")/.."
report=()
left_out=()

part() { # part NAME COMMAND...
  local name=$1 begun=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  "$@"
  report+=("$(printf '%-34s %4d s' "$name" $((SECONDS - begun)))")
}

unit() { go test -trimpath ./...; }
lab_module() { (cd hack/lab && go test -trimpath ./...); }
# Brings a lab up, kills it, takes it down, and compares the machine before and after.
lab_itself() { (cd hack/lab && HTTPSMESHPROBE_LAB_TEST=1 go test -trimpath -count=1 -timeout 15m -run 'TestLab$' .); }
# Istio's own packages, of the versions that the lab has just compiled.
oracle() { (cd test/oracle && CGO_ENABLED=0 go test -trimpath -count=1 -v ./... | grep -v '^=== '); }
# Argo CD's own Lua runner and kstatus, over statuses that a lab once handed out.
gitops() { (cd test/gitops && CGO_ENABLED=0 go test -trimpath -count=1 ./...); }
# Two releases of a stand-in for all platforms, and one of this checkout for this machine's.
release() { (cd hack/release && CGO_ENABLED=0 go test -trimpath -count=1 ./...); }
# What the tests of documentation, chart and release call, each of its own module.
tools() { make --no-print-directory bin/helm bin/release bin/cyclonedx-gomod; }
# Prometheus' own tests of rules, by the promtool of Debian's package.
alerts() { make --no-print-directory test-alerts; }
# The page of kubectl meshprobe ui, in a real browser over a real API server.
page() { (cd test/browser && CGO_ENABLED=0 go test -trimpath -count=1 ./...); }
# Not bin/lab as make builds it: where it cannot be built (not Linux), the rest still runs.
lab_program() { make --no-print-directory bin/lab; }

if [ "$(uname -s)" != Linux ]; then
  left_out+=("API, controllers and end to end: they need Linux, for the lab's kube-apiserver and its namespaces")
elif [ "$(id -u)" != 0 ]; then
  left_out+=("API, controllers and end to end: they need root, to build the lab's root file system and enter its namespaces")
else
  part "lab: program" lab_program
  part "lab: Kubernetes, Istio, Envoy" bin/lab build
  KUBEBUILDER_ASSETS=$(bin/lab assets)
  export KUBEBUILDER_ASSETS
fi
part "helm, release, SBOM: programs" tools
part "unit, API and controllers" unit
part "oracle: policies by Istio itself" oracle
part "Argo CD and Flux" gitops
part "release" release
if command -v dpkg-deb >/dev/null || [ -x bin/promtool ]; then
  part "alerts: promtool" alerts
else
  left_out+=("alerts: they need promtool, which comes from Debian's package; hack/prometheus.sh says how")
fi
if [ -z "${KUBEBUILDER_ASSETS:-}" ]; then
  left_out+=("page in Chromium: it needs the lab's kube-apiserver")
elif reason=$(hack/chromium.sh 2>&1); then
  part "page in Chromium" page
else
  left_out+=("page in Chromium: $(tail -n 1 <<<"$reason")")
fi
part "lab: its own tests" lab_module
if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  part "lab: a real one" lab_itself
  part "end to end, on a lab" hack/e2e.sh
  part "installing, on a lab" hack/install-test.sh
fi

printf '\n== what ran\n'
printf '  %s\n' "${report[@]}"
for what in "${left_out[@]}"; do printf '  NOT RUN: %s\n' "$what"; done
