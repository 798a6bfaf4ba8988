{{/*
The least rights that the settings need: what `gatehouse rbac` prints, rule by rule.
A test compares both for every combination of values.
*/}}

{{/* What people may have, as {users, groups, uids, extra: [...]}. */}}
{{- define "gatehouse.needs" -}}
{{- $v := .Values -}}
{{- $tokens := not (empty $v.tokenAuthFile.existingSecret) -}}
{{- $certificates := not (empty (compact (list $v.clientCA.content $v.clientCA.existingConfigMap $v.clientCA.existingSecret))) -}}
{{- $issuers := not (empty $v.oidc.issuerURL) -}}
{{- $groups := or $tokens $certificates (not (empty $v.oidc.groupsClaim)) -}}
{{- $uids := or $tokens $certificates -}}
{{- $anonymous := false -}}
{{- $extra := list -}}
{{- with $v.authenticationConfig -}}
  {{- if .content -}}
    {{- $config := .content -}}
    {{- if kindIs "string" $config -}}
      {{- $config = fromYaml $config -}}
      {{- with $config.Error }}{{ fail (printf "authenticationConfig.content: %s" .) }}{{ end -}}
    {{- end -}}
    {{- $anonymous = dig "anonymous" "enabled" false $config -}}
    {{- range $config.jwt -}}
      {{- $issuers = true -}}
      {{- $mappings := default dict .claimMappings -}}
      {{- $groups = or $groups (not (empty (dig "groups" "claim" "" $mappings))) (not (empty (dig "groups" "expression" "" $mappings))) -}}
      {{- $uids = or $uids (not (empty (dig "uid" "claim" "" $mappings))) (not (empty (dig "uid" "expression" "" $mappings))) -}}
      {{- range $mappings.extra -}}
        {{- $extra = append $extra .key -}}
      {{- end -}}
    {{- end -}}
  {{- else if or .existingConfigMap .existingSecret -}}
    {{- $issuers = true -}}
    {{- $groups = or $groups .carries.groups -}}
    {{- $uids = or $uids .carries.uids -}}
    {{- $extra = .carries.extraKeys -}}
  {{- end -}}
{{- end -}}
{{- $groups = or $groups $anonymous -}}
{{- if or $issuers $certificates -}}
  {{- $extra = append $extra "authentication.kubernetes.io/credential-id" -}}
{{- end -}}
{{- if $v.impersonation -}}
  {{- $groups = true -}}
  {{- $uids = true -}}
  {{- $extra = append $extra "kube-gatehouse.github.io/original-user" -}}
{{- end -}}
{{- if $v.exchange.sessionKeys.existingSecret -}}
  {{- $extra = concat $extra (list "authentication.kubernetes.io/credential-id" "kube-gatehouse.github.io/scope" "kube-gatehouse.github.io/actor") -}}
{{- end -}}
{{- dict "users" (or $v.impersonation $tokens $certificates $issuers $anonymous)
         "groups" $groups "uids" $uids "extra" ($extra | uniq | sortAlpha) | toYaml -}}
{{- end -}}

{{/* What may be asked in the names of one kind of user: (list . KIND). */}}
{{- define "gatehouse.door" -}}
{{- $root := index . 0 -}}
{{- $kind := index . 1 -}}
{{- $rules := list -}}
{{- $doors := $root.Files.Get "files/doors.yaml" | fromYaml -}}
{{- range $root.Values.rbac.readOnly | ternary $doors.readOnly $doors.open -}}
  {{- $rule := deepCopy . -}}
  {{- $verbs := list -}}
  {{- range .verbs -}}
    {{- $verbs = append $verbs (printf "impersonate-on:%s:%s" $kind .) -}}
  {{- end -}}
  {{- $_ := set $rule "verbs" $verbs -}}
  {{- if gt (len (default list .apiGroups)) 1 -}}
    {{- $_ := set $rule "apiGroups" (concat .apiGroups $root.Values.rbac.apiGroups | uniq | sortAlpha) -}}
  {{- end -}}
  {{- $rules = append $rules $rule -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end -}}

{{- define "gatehouse.rules" -}}
{{- $v := .Values -}}
{{- $needs := include "gatehouse.needs" . | fromYaml -}}
{{- $who := list "users" -}}
{{- if $needs.groups }}{{ $who = append $who "groups" }}{{ end -}}
{{- $more := $needs.uids | ternary (list "uids") list -}}
{{- range $needs.extra }}{{ $more = append $more (printf "userextras/%s" .) }}{{ end -}}
{{- $rules := list -}}
{{- if and $needs.users $v.rbac.legacy -}}
  {{- if $v.impersonation }}{{ $who = append $who "serviceaccounts" }}{{ end -}}
  {{- $rules = append $rules (dict "apiGroups" (list "") "resources" $who "verbs" (list "impersonate")) -}}
  {{- if $more -}}
    {{- $rules = append $rules (dict "apiGroups" (list "authentication.k8s.io") "resources" $more "verbs" (list "impersonate")) -}}
  {{- end -}}
{{- else if $needs.users -}}
  {{- $rules = append $rules (dict "apiGroups" (list "authentication.k8s.io") "resources" (concat $who $more) "verbs" (list "impersonate:user-info")) -}}
  {{- if $v.impersonation -}}
    {{- $rules = append $rules (dict "apiGroups" (list "authentication.k8s.io") "resources" (list "serviceaccounts") "verbs" (list "impersonate:serviceaccount")) -}}
  {{- end -}}
  {{- $rules = concat $rules (include "gatehouse.door" (list . "user-info") | fromYamlArray) -}}
  {{- if $v.impersonation -}}
    {{- $rules = concat $rules (include "gatehouse.door" (list . "serviceaccount") | fromYamlArray) -}}
  {{- end -}}
{{- end -}}
{{- if or $v.impersonation $v.exchange.sessionKeys.existingSecret -}}
  {{- $rules = append $rules (dict "apiGroups" (list "authorization.k8s.io") "resources" (list "subjectaccessreviews") "verbs" (list "create")) -}}
{{- end -}}
{{- if include "gatehouse.tokenReview" . -}}
  {{- $rules = append $rules (dict "apiGroups" (list "authentication.k8s.io") "resources" (list "tokenreviews") "verbs" (list "create")) -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end -}}
