{{/* What contradicts itself: gatehouse would refuse it too, but in a pod that restarts. */}}
{{- define "gatehouse.refuse" -}}
{{- $v := .Values -}}
{{- $config := compact (list $v.authenticationConfig.content $v.authenticationConfig.existingConfigMap $v.authenticationConfig.existingSecret) -}}
{{- $certificates := compact (list $v.clientCA.content $v.clientCA.existingConfigMap $v.clientCA.existingSecret) -}}
{{- $lists := compact (list $v.clientCRL.content $v.clientCRL.existingConfigMap $v.clientCRL.existingSecret) -}}
{{- $tokenReview := include "gatehouse.tokenReview" . -}}
{{- if and $v.oidc.issuerURL (not $v.oidc.clientID) -}}
  {{- fail "oidc.issuerURL needs oidc.clientID: without an audience, a token for any application would do" -}}
{{- end -}}
{{- if and $v.oidc.clientID (not $v.oidc.issuerURL) -}}
  {{- fail "oidc.clientID needs oidc.issuerURL" -}}
{{- end -}}
{{- if and $v.oidc.issuerURL $config -}}
  {{- fail "authenticationConfig excludes oidc: put that issuer into the file" -}}
{{- end -}}
{{- if and $lists (not $certificates) -}}
  {{- fail "clientCRL needs clientCA: without it no certificate is accepted" -}}
{{- end -}}
{{- if and $v.tokenReview.audiences (not $tokenReview) -}}
  {{- fail "tokenReview.audiences needs tokenReview.enabled: without it no ServiceAccount token is accepted" -}}
{{- end -}}
{{- if not (or $v.oidc.issuerURL $config $certificates $v.tokenAuthFile.existingSecret $tokenReview) -}}
  {{- fail "no credential is accepted, so that nobody could sign in: set oidc, authenticationConfig, tokenAuthFile, clientCA or tokenReview" -}}
{{- end -}}
{{- if eq (int $v.ports.proxy) (int $v.ports.ops) -}}
  {{- fail "ports.ops is the proxy's port too" -}}
{{- end -}}
{{- if and (eq $v.proxyProtocol "on") (not $v.trustedProxies) -}}
  {{- fail "proxyProtocol needs trustedProxies: from anybody else a header is never read" -}}
{{- end -}}
{{- end -}}
