{{/* Only what differs from the operator's own defaults is said. */}}
{{- define "httpsmeshprobe.arguments" -}}
{{- $arguments := list }}
{{- if .Values.leaderElection.enabled }}{{ $arguments = append $arguments "--leader-elect" }}{{ end }}
{{- if eq .Values.scope "namespace" }}{{ $arguments = append $arguments "--watch-namespace=$(POD_NAMESPACE)" }}{{ end }}
{{- if not (include "httpsmeshprobe.metrics" .) }}{{ $arguments = append $arguments "--metrics-bind-address=0" }}
{{- else if ne (int .Values.metrics.port) 8443 }}{{ $arguments = append $arguments (printf "--metrics-bind-address=:%d" (int .Values.metrics.port)) }}{{ end }}
{{- if .Values.metrics.certificateSecret }}{{ $arguments = append $arguments "--metrics-cert-path=/metrics-certificate" }}{{ end }}
{{- if ne .Values.istioNamespace "istio-system" }}{{ $arguments = append $arguments (printf "--istio-namespace=%s" .Values.istioNamespace) }}{{ end }}
{{- if ne .Values.clusterDomain "cluster.local" }}{{ $arguments = append $arguments (printf "--cluster-domain=%s" .Values.clusterDomain) }}{{ end }}
{{- if .Values.allowCrossNamespace }}{{ $arguments = append $arguments "--allow-cross-namespace" }}{{ end }}
{{- with .Values.probes.serverImage }}{{ $arguments = append $arguments (printf "--server-image=%s" .) }}{{ end }}
{{- with .Values.probes.sleepImage }}{{ $arguments = append $arguments (printf "--sleep-image=%s" .) }}{{ end }}
{{- with .Values.heartbeat }}{{ $arguments = append $arguments (printf "--heartbeat=%s" .) }}{{ end }}
{{- if .Values.log.development }}{{ $arguments = append $arguments "--development" }}{{ end }}
{{- $arguments = concat $arguments .Values.extraArgs }}
{{- if $arguments }}
args:
{{- toYaml $arguments | nindent 2 }}
{{- end }}
{{- end }}
