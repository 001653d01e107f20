#!/usr/bin/env bash
# Makes the pictures of the page in docs/images, of probes on a lab of their own: the four samples, and one that an older
# PeerAuthentication refutes. The lab is removed afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${LAB_NAME:-screenshots}
[ -n "${KEEP_LAB:-}" ] || trap 'bin/lab down --name "$name"' EXIT
trap 'exit 130' INT TERM

hack/chromium.sh
go build -trimpath -o bin/kubectl-meshprobe ./cmd/kubectl-meshprobe
(cd test/browser && go build -trimpath -o ../../bin/screenshots ./screenshots)
bin/lab up --name "$name"
hack/deploy.sh "$name"
eval "$(bin/lab env --name "$name")"
kubectl apply -k config/samples >/dev/null
kubectl apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: legacy, namespace: shop}
spec:
  selector: {matchLabels: {meshprobe.dev/probe: web}}
  mtls: {mode: PERMISSIVE}
YAML
# The older of two policies decides, and their age counts in whole seconds.
sleep 1
kubectl apply -f - >/dev/null <<'YAML'
apiVersion: meshprobe.dev/v1alpha1
kind: HTTPSMeshProbe
metadata: {name: web, namespace: shop}
spec:
  target: {sidecar: Enabled}
  mtls: {mode: STRICT}
  interval: 10s
YAML
kubectl wait --for=condition=Ready hmp --all --timeout=120s >/dev/null
kubectl -n shop wait --for='jsonpath={.status.conditions[?(@.type=="Ready")].reason}=Refuted' hmp/web --timeout=120s >/dev/null
bin/lab exec --name "$name" -- bin/screenshots bin/kubectl-meshprobe docs/images/ui
