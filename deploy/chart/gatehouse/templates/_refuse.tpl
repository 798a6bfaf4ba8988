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
{{- if $v.exchange.url -}}
  {{- if or (eq (int $v.ports.exchange) (int $v.ports.proxy)) (eq (int $v.ports.exchange) (int $v.ports.ops)) -}}
    {{- fail "ports.exchange is the proxy's or the ops port too" -}}
  {{- end -}}
  {{- if eq (int $v.service.exchangePort) (int $v.service.port) -}}
    {{- fail "service.exchangePort is service.port too" -}}
  {{- end -}}
{{- else if $v.exchange.sessionKeys.existingSecret -}}
  {{- fail "exchange.sessionKeys needs exchange.url: without it no tokens are exchanged" -}}
{{- else if $v.networkPolicy.exchangeFrom -}}
  {{- fail "networkPolicy.exchangeFrom needs exchange.url: without it no tokens are exchanged" -}}
{{- end -}}
{{- if and (or $v.exchange.sessionMaxLifetime $v.exchange.sessionLifetimes $v.exchange.sessionOutlive) (not $v.exchange.sessionKeys.existingSecret) -}}
  {{- fail "exchange.sessionMaxLifetime, sessionLifetimes and sessionOutlive need exchange.sessionKeys: without keys there are no session tokens" -}}
{{- end -}}
{{- if and (eq $v.proxyProtocol "on") (not $v.trustedProxies) -}}
  {{- fail "proxyProtocol needs trustedProxies: from anybody else a header is never read" -}}
{{- end -}}
{{- end -}}
