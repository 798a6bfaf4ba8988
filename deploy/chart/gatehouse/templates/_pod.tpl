{{/* What the Deployment's pods and the test's have in common. */}}

{{- define "gatehouse.podCommon" -}}
serviceAccountName: {{ include "gatehouse.serviceAccountName" . | quote }}
# The token is mounted below, with an end.
automountServiceAccountToken: false
# Variables for a Service called gatehouse-... would be unknown settings.
enableServiceLinks: false
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  {{- include "gatehouse.volumes" . | nindent 2 }}
{{- end -}}

{{- define "gatehouse.containerCommon" -}}
image: {{ include "gatehouse.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- include "gatehouse.env" . | trim | nindent 2 }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: tls
    mountPath: /etc/gatehouse/tls
    readOnly: true
  {{- if not .Values.kubeconfig.existingSecret }}
  - name: account
    mountPath: /var/run/secrets/kubernetes.io/serviceaccount
    readOnly: true
  {{- end }}
  {{- if .Values.exchange.sessionKeys.existingSecret }}
  - name: session-keys
    mountPath: /etc/gatehouse/session-keys
    readOnly: true
  {{- end }}
  {{- range include "gatehouse.files" . | fromYamlArray }}
  - name: {{ .name }}
    mountPath: /etc/gatehouse/{{ .name }}
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Whole volumes, never one file of them by subPath: such a mount is never updated. */}}
{{- define "gatehouse.volumes" -}}
- name: tls
  secret:
    secretName: {{ include "gatehouse.tlsSecretName" . | quote }}
    defaultMode: 0440
{{- if not .Values.kubeconfig.existingSecret }}
- name: account
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: {{ int .Values.serviceAccountToken.expirationSeconds }}
          {{- with .Values.serviceAccountToken.audience }}
          audience: {{ . | quote }}
          {{- end }}
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
{{- end }}
{{- with .Values.exchange.sessionKeys.existingSecret }}
- name: session-keys
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- $fullname := include "gatehouse.fullname" . }}
{{- range include "gatehouse.files" . | fromYamlArray }}
- name: {{ .name }}
  {{- if .source.existingSecret }}
  secret:
    secretName: {{ .source.existingSecret | quote }}
    defaultMode: 0440
    items:
      - key: {{ .source.key | quote }}
        path: {{ .source.key | quote }}
  {{- else }}
  configMap:
    name: {{ default $fullname .source.existingConfigMap | quote }}
    defaultMode: 0440
    items:
      - key: {{ not .source.content | ternary .source.key .name | quote }}
        path: {{ .source.key | quote }}
  {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
