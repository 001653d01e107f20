{{/* Values that cannot go together. The schema has looked at each by itself. */}}
{{- define "httpsmeshprobe.contradictions" -}}
{{- if not (include "httpsmeshprobe.repository" .) }}
{{- fail "image.repository is empty, and no image is published yet: build one with the Dockerfile, push it where your nodes can pull it, and set image.repository" }}
{{- end }}
{{- if and .Values.image.tag .Values.image.digest }}
{{- fail "image.tag and image.digest are both set: a digest names the image by itself, so leave one of them empty" }}
{{- end }}
{{- if and (eq .Values.scope "namespace") .Values.allowCrossNamespace }}
{{- fail "allowCrossNamespace is true, but with scope: namespace the operator may read no other namespace: set scope: cluster, or leave allowCrossNamespace off" }}
{{- end }}
{{- if and (eq .Values.scope "namespace") (include "httpsmeshprobe.metrics" .) }}
{{- fail "metrics.enabled is true, but with scope: namespace the operator has no right to ask who may have the metrics: set scope: cluster, or leave metrics.enabled off" }}
{{- end }}
{{- if and .Values.metrics.certificateSecret (not (include "httpsmeshprobe.metrics" .)) }}
{{- fail "metrics.certificateSecret is set, but no metrics are served: set metrics.enabled, or leave metrics.certificateSecret empty" }}
{{- end }}
{{- range $wanted := list "serviceMonitor" "prometheusRule" "dashboard" }}
{{- if and (get $.Values.metrics $wanted).enabled (not (include "httpsmeshprobe.metrics" $)) }}
{{- fail (printf "metrics.%s.enabled is true, but no metrics are served: set metrics.enabled and scope: cluster, or leave it off" $wanted) }}
{{- end }}
{{- end }}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection.enabled) }}
{{- fail (printf "replicas is %d without leaderElection.enabled: all of them would work at the same probes; turn leader election on, or set replicas: 1" (int .Values.replicas)) }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
{{- fail "serviceAccount.create is false and serviceAccount.name is empty: name the service account that is there already" }}
{{- end }}
{{- range $argument := .Values.extraArgs }}
{{- $flag := trimAll "-" (first (splitList "=" $argument)) }}
{{- $value := get (dict
  "watch-namespace" "scope" "istio-namespace" "istioNamespace" "cluster-domain" "clusterDomain"
  "allow-cross-namespace" "allowCrossNamespace" "heartbeat" "heartbeat" "server-image" "probes.serverImage"
  "sleep-image" "probes.sleepImage" "leader-elect" "leaderElection.enabled" "metrics-bind-address" "metrics.enabled and metrics.port"
  "metrics-cert-path" "metrics.certificateSecret" "development" "log.development") $flag }}
{{- if $value }}
{{- fail (printf "extraArgs sets --%s, which belongs to the value %s: set that instead" $flag $value) }}
{{- end }}
{{- end }}
{{- end }}
