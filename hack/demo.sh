#!/usr/bin/env bash
# The whole line on one machine: a lab, the operator, the four samples, their verdicts. Ends non-zero if one of them is
# not what Istio's task "Mutual TLS over HTTPS" promises.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${LAB_NAME:-default}
begun=$SECONDS
say() { printf '%3ds  %s\n' $((SECONDS - begun)) "$*"; }

say "lab: a one-node Kubernetes with Istio (some minutes the first time)"
bin/lab up --name "$name"
say "operator: built, loaded and deployed by kustomize (config/lab)"
hack/deploy.sh "$name"
eval "$(bin/lab env --name "$name")"
kubectl apply -k config/samples >/dev/null
say "samples: applied (config/samples)"

probes=(no-sidecar mtls-disabled mtls-permissive mtls-strict)
field() { kubectl get hmp "$1" -o jsonpath="$2"; }
declare -A shown=()
deadline=$((SECONDS + 180))
while :; do
  open=0
  for probe in "${probes[@]}"; do
    ready=$(field "$probe" '{.status.conditions[?(@.type=="Ready")].status}')
    line="$probe: $(field "$probe" '{.status.conditions[?(@.type=="Ready")].reason}: {.status.conditions[?(@.type=="Ready")].message}')"
    [ "$line" != "$probe: : " ] || line="$probe: waiting for the operator to look at it"
    [ "${shown[$probe]:-}" = "$line" ] || say "$line"
    shown[$probe]=$line
    [ "$ready" = True ] || open=1
  done
  [ $open = 1 ] && [ $SECONDS -lt $deadline ] || break
  sleep 1
done

printf '\n'
kubectl get hmp
printf '\n'
wrong=0
while read -r probe expected meaning; do
  seen=$(field "$probe" '{.status.conditions[?(@.type=="Ready")].status}:{.status.paths[?(@.name=="sleep")].observed}/{.status.paths[?(@.name=="istio-proxy")].observed}/{.status.paths[?(@.name=="outsider")].observed}')
  if [ "$seen" = "True:$expected" ]; then
    printf '  ok     %-16s %s\n' "$probe" "$meaning"
  else
    printf '  WRONG  %-16s expected True:%s, found %s\n' "$probe" "$expected" "$seen"
    wrong=1
  fi
done <<'TABLE'
no-sidecar 200/200/200 no sidecar before the server: everybody gets through
mtls-disabled 200/200/200 a sidecar that leaves TLS alone: everybody gets through
mtls-permissive 200/200/200 a sidecar that takes mutual TLS and everything else: everybody gets through
mtls-strict 200/refused/refused a sidecar that demands mutual TLS: the mesh gets through, whoever goes around it is refused
TABLE
cat <<EOF

To look further:
  eval "\$(bin/lab env --name $name)"
  kubectl describe hmp mtls-strict      # the evidence, path by path
  kubectl explain hmp.spec.mtls         # what can be declared
  kubectl wait --for=condition=Ready hmp --all
  make demo-down                        # removes the lab
EOF
exit $wrong
