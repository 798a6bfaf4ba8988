{{/* What becomes of values in gatehouse's environment and files. */}}

{{/*
Every file that gatehouse reads, as a YAML list: the volume, the value that says
where it comes from, and the variable that names it.
*/}}
{{- define "gatehouse.files" -}}
{{- $v := .Values -}}
{{- $files := list
  (dict "name" "oidc-ca" "path" "oidc.ca" "source" $v.oidc.ca "variable" "OIDC_CA_FILE")
  (dict "name" "authentication-config" "path" "authenticationConfig" "source" $v.authenticationConfig "variable" "AUTHENTICATION_CONFIG")
  (dict "name" "tokens" "path" "tokenAuthFile" "source" $v.tokenAuthFile "variable" "TOKEN_AUTH_FILE")
  (dict "name" "client-ca" "path" "clientCA" "source" $v.clientCA "variable" "CLIENT_CA_FILE")
  (dict "name" "client-crl" "path" "clientCRL" "source" $v.clientCRL "variable" "CLIENT_CRL_FILE")
  (dict "name" "revocations" "path" "revocations" "source" $v.revocations "variable" "REVOCATION_FILE")
  (dict "name" "entra-client-secret" "path" "entra.clientSecret" "source" $v.entra.clientSecret "variable" "ENTRA_CLIENT_SECRET_FILE")
  (dict "name" "entra-ca" "path" "entra.ca" "source" $v.entra.ca "variable" "ENTRA_CA_FILE")
  (dict "name" "kubeconfig" "path" "kubeconfig" "source" $v.kubeconfig "variable" "KUBECONFIG")
  (dict "name" "audit-policy" "path" "audit.policy" "source" $v.audit.policy "variable" "AUDIT_POLICY_FILE")
-}}
{{- $set := list -}}
{{- range $files -}}
  {{- $from := compact (list .source.content .source.existingConfigMap .source.existingSecret) -}}
  {{- if gt (len $from) 1 -}}
    {{- fail (printf "%s: set one of content, existingConfigMap and existingSecret" .path) -}}
  {{- end -}}
  {{- if $from -}}
    {{- $set = append $set . -}}
  {{- end -}}
{{- end -}}
{{- toYaml $set -}}
{{- end -}}

{{/* The text of a file of which the content is a value: (dict "source" ...). */}}
{{- define "gatehouse.content" -}}
{{- if kindIs "string" .source.content -}}
{{- .source.content -}}
{{- else -}}
{{- toYaml .source.content -}}
{{- end -}}
{{- end -}}

{{/* One variable, unless its value is empty: (list NAME VALUE). */}}
{{- define "gatehouse.setting" -}}
{{- $value := index . 1 -}}
{{- if kindIs "slice" $value -}}
  {{- $value = join "," $value -}}
{{- else if kindIs "float64" $value -}}
  {{- $value = $value | int64 | toString -}}
{{- else -}}
  {{- $value = $value | toString -}}
{{- end -}}
{{- if $value }}
- name: GATEHOUSE_{{ index . 0 }}
  value: {{ $value | quote }}
{{- end -}}
{{- end -}}

{{/* Whether ServiceAccount tokens are accepted: true, or nothing. */}}
{{- define "gatehouse.tokenReview" -}}
{{- $v := .Values -}}
{{- if eq (toString $v.tokenReview.enabled) "auto" -}}
  {{- $others := list $v.oidc.issuerURL $v.clientCA.content $v.clientCA.existingConfigMap $v.clientCA.existingSecret $v.tokenAuthFile.existingSecret -}}
  {{- with $v.authenticationConfig -}}
    {{- $others = concat $others (list .content .existingConfigMap .existingSecret) -}}
  {{- end -}}
  {{- if not (compact $others) }}true{{ end -}}
{{- else if $v.tokenReview.enabled -}}
true
{{- end -}}
{{- end -}}

{{/* The container's environment. A name that stands twice could not be applied. */}}
{{- define "gatehouse.env" -}}
{{- $own := include "gatehouse.ownEnv" . -}}
{{- range .Values.extraEnv -}}
  {{- if contains (printf "- name: %s\n" .name) $own -}}
    {{- fail (printf "extraEnv: %s is set by a value of the chart" .name) -}}
  {{- end -}}
{{- end -}}
{{- $own -}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end -}}
{{- end -}}

{{- define "gatehouse.ownEnv" -}}
{{- $v := .Values -}}
{{- $claims := list -}}
{{- range $name, $value := $v.oidc.requiredClaims -}}
  {{- $claims = append $claims (printf "%s=%s" $name $value) -}}
{{- end -}}
{{- $tokenReview := include "gatehouse.tokenReview" . -}}
{{- range list
  (list "LISTEN_ADDRESS" (printf ":%d" (int $v.ports.proxy)))
  (list "OPS_ADDRESS" (printf ":%d" (int $v.ports.ops)))
  (list "TLS_CERT_FILE" "/etc/gatehouse/tls/tls.crt")
  (list "TLS_KEY_FILE" "/etc/gatehouse/tls/tls.key")
  (list "OIDC_ISSUER_URL" $v.oidc.issuerURL)
  (list "OIDC_CLIENT_ID" $v.oidc.clientID)
  (list "OIDC_USERNAME_CLAIM" $v.oidc.usernameClaim)
  (list "OIDC_USERNAME_PREFIX" $v.oidc.usernamePrefix)
  (list "OIDC_GROUPS_CLAIM" $v.oidc.groupsClaim)
  (list "OIDC_GROUPS_PREFIX" $v.oidc.groupsPrefix)
  (list "OIDC_REQUIRED_CLAIMS" $claims)
  (list "OIDC_SIGNING_ALGS" $v.oidc.signingAlgs)
  (list "TOKEN_REVIEW" $tokenReview)
  (list "API_AUDIENCES" $v.tokenReview.audiences)
  (list "IMPERSONATION" $v.impersonation)
  (list "ALLOWED_RESERVED_NAMES" $v.allowedReservedNames)
  (list "ENTRA_TENANT_ID" $v.entra.tenantID)
  (list "ENTRA_CLIENT_ID" $v.entra.clientID)
  (list "ENTRA_GROUPS" $v.entra.groups)
  (list "ENTRA_GROUPS_MAX_AGE" $v.entra.groupsMaxAge)
  (list "ENTRA_LOGIN_URL" $v.entra.loginURL)
  (list "ENTRA_GRAPH_URL" $v.entra.graphURL)
  (list "CLIENT_CRL_STALE" $v.clientCRL.stale)
  (list "TRUSTED_PROXIES" $v.trustedProxies)
  (list "PROXY_PROTOCOL" $v.proxyProtocol)
  (list "SHUTDOWN_DELAY" (printf "%ds" (int $v.shutdown.delaySeconds)))
  (list "SHUTDOWN_TIMEOUT" (printf "%ds" (int $v.shutdown.timeoutSeconds)))
  (list "LOG_LEVEL" $v.log.level)
  (list "LOG_FORMAT" $v.log.format)
-}}
{{- include "gatehouse.setting" . -}}
{{- end -}}
{{- range include "gatehouse.files" . | fromYamlArray -}}
{{- include "gatehouse.setting" (list .variable (printf "/etc/gatehouse/%s/%s" .name .source.key)) -}}
{{- if eq .path "audit.policy" -}}
{{- include "gatehouse.setting" (list "AUDIT_LOG_PATH" $v.audit.logPath) -}}
{{- end -}}
{{- end -}}
{{- with $v.exchange -}}
{{- if .url -}}
{{- include "gatehouse.setting" (list "EXCHANGE_ADDRESS" (printf ":%d" (int $v.ports.exchange))) -}}
{{- include "gatehouse.setting" (list "EXCHANGE_URL" .url) -}}
{{- include "gatehouse.setting" (list "EXCHANGE_RATE" .perMinute) -}}
{{- end -}}
{{- if .sessionKeys.existingSecret -}}
{{- include "gatehouse.setting" (list "SESSION_KEY_DIR" "/etc/gatehouse/session-keys") -}}
{{- end -}}
{{- $lifetimes := list -}}
{{- range $issuer, $lifetime := .sessionLifetimes -}}
  {{- $lifetimes = append $lifetimes (printf "%s=%s" $issuer $lifetime) -}}
{{- end -}}
{{- include "gatehouse.setting" (list "SESSION_MAX_LIFETIME" .sessionMaxLifetime) -}}
{{- include "gatehouse.setting" (list "SESSION_LIFETIMES" $lifetimes) -}}
{{- include "gatehouse.setting" (list "SESSION_OUTLIVE" .sessionOutlive) -}}
{{- end -}}
{{- range $name, $value := $v.settings -}}
{{- include "gatehouse.setting" (list $name $value) -}}
{{- end -}}
{{- end -}}
