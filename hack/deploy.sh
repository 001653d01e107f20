#!/usr/bin/env bash
# Builds the operator's image, loads it into a running lab and deploys it there by kustomize: deploy.sh LAB-NAME
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

bin/lab image -o "$work/operator.tar" >/dev/null
bin/lab load --name "$name" "$work/operator.tar" >/dev/null
eval "$(bin/lab env --name "$name")"
manager="deployment/httpsmeshprobe-manager"
was_there=$(kubectl -n httpsmeshprobe-system get "$manager" -o name --ignore-not-found 2>/dev/null || true)
kubectl apply -k config/lab >/dev/null
# The image's name is the same as before, so an operator that runs already does not see the new one.
[ -z "$was_there" ] || kubectl -n httpsmeshprobe-system rollout restart "$manager" >/dev/null
kubectl -n httpsmeshprobe-system rollout status "$manager" --timeout=120s >/dev/null
