{{- define "httpsmeshprobe.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "httpsmeshprobe.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "httpsmeshprobe.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "httpsmeshprobe.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What belongs to no namespace must be named apart where there may be a release in each. */}}
{{- define "httpsmeshprobe.clusterwide" -}}
{{- if eq .Values.scope "namespace" }}
{{- printf "%s-%s" .Release.Namespace (include "httpsmeshprobe.fullname" .) }}
{{- else }}
{{- include "httpsmeshprobe.fullname" . }}
{{- end }}
{{- end }}

{{- define "httpsmeshprobe.serviceAccount" -}}
{{- default (printf "%s-manager" (include "httpsmeshprobe.fullname" .)) .Values.serviceAccount.name }}
{{- end }}

{{/* A released chart goes with the released image. */}}
{{- define "httpsmeshprobe.repository" -}}
{{- if .Values.image.repository }}{{ .Values.image.repository }}
{{- else if ne .Chart.AppVersion "dev" }}ghcr.io/meshprobe/httpsmeshprobe{{ end }}
{{- end }}

{{- define "httpsmeshprobe.selector" -}}
app.kubernetes.io/name: {{ include "httpsmeshprobe.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: manager
{{- end }}

{{- define "httpsmeshprobe.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "httpsmeshprobe.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "httpsmeshprobe.metrics" -}}
{{- if kindIs "invalid" .Values.metrics.enabled }}{{ if eq .Values.scope "cluster" }}on{{ end }}
{{- else if .Values.metrics.enabled }}on{{ end }}
{{- end }}
