{{/* Names and labels. */}}

{{- define "gatehouse.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* NAME: the release's, with gatehouse in it. 45 characters leave room for what is added. */}}
{{- define "gatehouse.fullname" -}}
{{- $name := include "gatehouse.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gatehouse.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gatehouse.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gatehouse.sharedLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: gatehouse
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An object's metadata: (list . NAME EXTRA-LABELS EXTRA-ANNOTATIONS). */}}
{{- define "gatehouse.metadata" -}}
namespace: {{ (index . 0).Release.Namespace | quote }}
{{ include "gatehouse.clusterMetadata" . }}
{{- end -}}

{{/* The same of an object that is in no namespace. */}}
{{- define "gatehouse.clusterMetadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 | quote }}
labels:
  {{- $own := include "gatehouse.selectorLabels" $root | fromYaml }}
  {{- $labels := merge $own (include "gatehouse.sharedLabels" $root | fromYaml) (index . 2) }}
  {{- toYaml $labels | nindent 2 }}
{{- with merge dict (index . 3) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "gatehouse.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "gatehouse.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* As `gatehouse rbac` names it, so that its advice means the same objects. */}}
{{- define "gatehouse.clusterRoleName" -}}
{{- $account := include "gatehouse.serviceAccountName" . -}}
{{- if and (eq $account "gatehouse") (eq .Release.Namespace "gatehouse") -}}
gatehouse
{{- else -}}
{{- printf "gatehouse:%s:%s" .Release.Namespace $account -}}
{{- end -}}
{{- end -}}

{{- define "gatehouse.tlsSecretName" -}}
{{- default (printf "%s-tls" (include "gatehouse.fullname" .)) .Values.tls.existingSecret -}}
{{- end -}}

{{- define "gatehouse.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Names under which the Service can be reached, for the certificate. */}}
{{- define "gatehouse.dnsNames" -}}
{{- $service := printf "%s.%s.svc" (include "gatehouse.fullname" .) .Release.Namespace -}}
{{- concat .Values.tls.certManager.dnsNames (.Values.tlsRoute.enabled | ternary .Values.tlsRoute.hostnames list) (list $service) | uniq | toYaml -}}
{{- end -}}
