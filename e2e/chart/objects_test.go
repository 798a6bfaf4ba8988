package chart_test

// Parts of values.
type m = map[string]any

type list = []any

const pod = ".spec.template.spec"

// inPod is a row of a value that stands in the pods.
func inPod(value string, to any, path string, want any, more ...any) row {
	return row{value, to, with(more...), deployment, pod + path, want}
}

func podRows() []row {
	const container = ".containers[0]"
	spread := list{m{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}}
	scaled := with("autoscaling.enabled", true)
	const hpa, pdb = "HorizontalPodAutoscaler/gatehouse", "PodDisruptionBudget/gatehouse"
	rows := []row{
		inPod("image.repository", "registry.example.com/g", container+".image", "registry.example.com/g:1", "image.tag", "1"),
		inPod("image.tag", "1", container+".image", "ghcr.io/kube-gatehouse/gatehouse:1"),
		inPod("image.digest", digest, container+".image", "ghcr.io/kube-gatehouse/gatehouse@"+digest),
		inPod("image.pullPolicy", "Always", container+".imagePullPolicy", "Always"),
		inPod("imagePullSecrets", list{m{"name": "s"}}, ".imagePullSecrets", list{m{"name": "s"}}),
		inPod("resources.requests.cpu", "2", container+".resources.requests.cpu", "2"),
		inPod("resources.requests.memory", "2Gi", container+".resources.requests.memory", "2Gi"),
		inPod("resources.limits.memory", "2Gi", container+".resources.limits.memory", "2Gi"),
		inPod("podSecurityContext.runAsNonRoot", false, ".securityContext.runAsNonRoot", false),
		inPod("podSecurityContext.runAsUser", 1, ".securityContext.runAsUser", 1),
		inPod("podSecurityContext.runAsGroup", 1, ".securityContext.runAsGroup", 1),
		inPod("podSecurityContext.fsGroup", 1, ".securityContext.fsGroup", 1),
		inPod("podSecurityContext.seccompProfile.type", "Unconfined", ".securityContext.seccompProfile.type", "Unconfined"),
		inPod("securityContext.allowPrivilegeEscalation", true, container+".securityContext.allowPrivilegeEscalation", true),
		inPod("securityContext.readOnlyRootFilesystem", false, container+".securityContext.readOnlyRootFilesystem", false),
		inPod("securityContext.capabilities.drop", list{"CHOWN"}, container+".securityContext.capabilities.drop", list{"CHOWN"}),
		inPod("topologySpreadConstraints", spread, ".topologySpreadConstraints", spread),
		inPod("affinity", m{"nodeAffinity": m{}}, ".affinity", m{"nodeAffinity": m{}}),
		inPod("nodeSelector", m{"a": "b"}, ".nodeSelector", m{"a": "b"}),
		inPod("tolerations", list{m{"key": "a"}}, ".tolerations", list{m{"key": "a"}}),
		inPod("priorityClassName", "high", ".priorityClassName", "high"),
		inPod("hostAliases", list{m{"ip": "192.0.2.1", "hostnames": list{"a"}}}, ".hostAliases", list{m{"ip": "192.0.2.1", "hostnames": list{"a"}}}),
		inPod("dnsPolicy", "None", ".dnsPolicy", "None"),
		inPod("dnsConfig", m{"nameservers": list{"192.0.2.1"}}, ".dnsConfig", m{"nameservers": list{"192.0.2.1"}}),
		inPod("extraVolumes", list{m{"name": "x", "emptyDir": m{}}}, `.volumes[?(@.name=="x")]`, m{"name": "x", "emptyDir": m{}}),
		inPod("extraVolumeMounts", list{m{"name": "x", "mountPath": "/x"}}, container+`.volumeMounts[?(@.name=="x")]`, m{"name": "x", "mountPath": "/x"}),
		inPod("ports.proxy", 9443, container+`.ports[?(@.name=="https")].containerPort`, 9443),
		inPod("ports.ops", 9080, container+`.ports[?(@.name=="ops")].containerPort`, 9080),
		inPod("ports.exchange", 9444, container+`.ports[?(@.name=="exchange")].containerPort`, 9444, "exchange.url", exchangeURL),
		inPod("exchange.sessionKeys.existingSecret", "keys", `.volumes[?(@.name=="session-keys")].secret`,
			m{"secretName": "keys", "defaultMode": 0o440}, "exchange.url", exchangeURL),
		inPod("exchange.sessionKeys.existingSecret", "keys", container+`.volumeMounts[?(@.name=="session-keys")]`,
			m{"name": "session-keys", "mountPath": "/etc/gatehouse/session-keys", "readOnly": true}, "exchange.url", exchangeURL),
		// The kubelet must not kill what gatehouse still waits for.
		inPod("shutdown.delaySeconds", 15, ".terminationGracePeriodSeconds", 40),
		inPod("shutdown.timeoutSeconds", 60, ".terminationGracePeriodSeconds", 70),
		inPod("tls.existingSecret", "mine", `.volumes[?(@.name=="tls")].secret.secretName`, "mine"),
		{"podLabels", m{"a": "b"}, nil, deployment, ".spec.template.metadata.labels.a", "b"},
		{"podAnnotations", m{"a": "b"}, nil, deployment, ".spec.template.metadata.annotations.a", "b"},
		{"commonLabels", m{"a": "b"}, nil, "Service/gatehouse", ".metadata.labels.a", "b"},
		{"commonLabels", m{"a": "b"}, nil, deployment, ".spec.template.metadata.labels.a", "b"},
		{"commonAnnotations", m{"a": "b"}, nil, "Service/gatehouse", ".metadata.annotations.a", "b"},
		{"commonAnnotations", m{"a": "b"}, nil, deployment, ".spec.template.metadata.annotations.a", "b"},
		{"nameOverride", "door", nil, "Deployment/gatehouse-door", `.spec.selector.matchLabels['app\.kubernetes\.io/name']`, "door"},
		{"fullnameOverride", "door", nil, "Deployment/door", "", true},
		{"replicaCount", 3, nil, deployment, ".spec.replicas", 3},
		{"revisionHistoryLimit", 3, nil, deployment, ".spec.revisionHistoryLimit", 3},
		{"updateStrategy.type", "Recreate", nil, deployment, ".spec.strategy.type", "Recreate"},
		{"updateStrategy.type", "Recreate", nil, deployment, ".spec.strategy.rollingUpdate", nil},
		{"updateStrategy.rollingUpdate.maxSurge", 3, nil, deployment, ".spec.strategy.rollingUpdate.maxSurge", 3},
		{"updateStrategy.rollingUpdate.maxUnavailable", 3, nil, deployment, ".spec.strategy.rollingUpdate.maxUnavailable", 3},
		{"autoscaling.enabled", true, nil, hpa, ".spec.scaleTargetRef", m{"apiVersion": "apps/v1", "kind": "Deployment", "name": "gatehouse"}},
		{"autoscaling.enabled", true, nil, deployment, ".spec.replicas", nil},
		{"autoscaling.minReplicas", 3, scaled, hpa, ".spec.minReplicas", 3},
		{"autoscaling.maxReplicas", 9, scaled, hpa, ".spec.maxReplicas", 9},
		{"autoscaling.targetCPUUtilizationPercentage", 50, scaled, hpa, `.spec.metrics[?(@.resource.name=="cpu")].resource.target`, m{"type": "Utilization", "averageUtilization": 50}},
		{"autoscaling.targetMemoryUtilizationPercentage", 50, scaled, hpa, `.spec.metrics[?(@.resource.name=="memory")].resource.target`, m{"type": "Utilization", "averageUtilization": 50}},
		{"autoscaling.behavior", m{"scaleDown": m{"stabilizationWindowSeconds": 1}}, scaled, hpa, ".spec.behavior", m{"scaleDown": m{"stabilizationWindowSeconds": 1}}},
		// One replica must not stop the node from being drained.
		{"replicaCount", 1, nil, pdb, "", false},
		{"autoscaling.minReplicas", 1, scaled, pdb, "", false},
		{"podDisruptionBudget.enabled", false, nil, pdb, "", false},
		{"podDisruptionBudget.minAvailable", "50%", nil, pdb, ".spec.minAvailable", "50%"},
		{"podDisruptionBudget.minAvailable", 2, nil, pdb, ".spec.maxUnavailable", nil}, // not both
		{"podDisruptionBudget.maxUnavailable", 2, nil, pdb, ".spec.maxUnavailable", 2},
	}
	for _, probe := range []string{"livenessProbe", "readinessProbe"} {
		for _, name := range []string{"initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"} {
			rows = append(rows, inPod(probe+"."+name, 33, container+"."+probe+"."+name, 33))
		}
	}
	return rows
}

const digest = "sha256:0123456789012345678901234567890123456789012345678901234567890123"

func accountRows() []row {
	const role, binding = "ClusterRole/gatehouse", "ClusterRoleBinding/gatehouse"
	mine := []any{"authenticationConfig.existingConfigMap", "mine", "impersonation", false}
	resources := func(groups, uids bool, extra ...any) list {
		all := list{"users"}
		if groups {
			all = append(all, "groups")
		}
		if uids {
			all = append(all, "uids")
		}
		return append(append(all, "userextras/authentication.kubernetes.io/credential-id"), extra...)
	}
	return []row{
		{"serviceAccount.create", false, nil, "ServiceAccount/gatehouse", "", false},
		{"serviceAccount.create", false, nil, deployment, pod + ".serviceAccountName", "default"},
		{"serviceAccount.name", "door", nil, "ServiceAccount/door", "", true},
		{"serviceAccount.name", "door", nil, deployment, pod + ".serviceAccountName", "door"},
		{"serviceAccount.name", "door", nil, "ClusterRoleBinding/gatehouse:gatehouse:door", ".subjects[0].name", "door"},
		{"serviceAccount.annotations", m{"a": "b"}, nil, "ServiceAccount/gatehouse", ".metadata.annotations.a", "b"},
		inPod("serviceAccountToken.audience", "api", `.volumes[?(@.name=="account")].projected.sources[0].serviceAccountToken.audience`, "api"),
		inPod("serviceAccountToken.expirationSeconds", 900, `.volumes[?(@.name=="account")].projected.sources[0].serviceAccountToken.expirationSeconds`, 900),
		inPod("kubeconfig.existingSecret", "mine", `.volumes[?(@.name=="account")]`, nil),
		{"kubeconfig.existingSecret", "mine", nil, role, "", false}, // it would be for nobody
		{"rbac.create", false, nil, role, "", false},
		{"rbac.create", false, nil, binding, "", false},
		{"rbac.legacy", true, nil, role, ".rules[0].verbs", list{"impersonate"}},
		{"rbac.readOnly", true, nil, role, ".rules[2].resources[0]", "componentstatuses"},
		{"rbac.apiGroups", list{"a.example.com"}, with("rbac.readOnly", true), role, ".rules[3].apiGroups[0]", "a.example.com"},
		{"authenticationConfig.carries.groups", false, with(mine...), role, ".rules[0].resources", resources(false, false)},
		{"authenticationConfig.carries.uids", true, with(mine...), role, ".rules[0].resources", resources(true, true)},
		{"authenticationConfig.carries.extraKeys", list{"example.com/tenant"}, with(mine...), role, ".rules[0].resources", resources(true, false, "userextras/example.com/tenant")},
		{"tokenReview.enabled", false, with("tokenReview.enabled", true, "clientCA.existingSecret", "ca"), deployment, environment("GATEHOUSE_TOKEN_REVIEW"), nil},
	}
}

func networkRows() []row {
	const service, policy, certificate, route = "Service/gatehouse", "NetworkPolicy/gatehouse", "Certificate/gatehouse", "TLSRoute/gatehouse"
	balanced := with("service.type", "LoadBalancer")
	guarded := with("networkPolicy.enabled", true)
	peers := list{m{"namespaceSelector": m{}}}
	certified := func() values {
		return with("tls.certManager.enabled", true, "tls.certManager.issuerRef.name", "ca")
	}
	routed := func() values {
		return with("tlsRoute.enabled", true, "tlsRoute.parentRefs", list{m{"name": "edge"}}, "tlsRoute.hostnames", list{"k8s.example.com"})
	}
	rows := []row{
		{"service.type", "LoadBalancer", nil, service, ".spec.type", "LoadBalancer"},
		{"service.port", 8443, nil, service, ".spec.ports[0].port", 8443},
		{"service.port", 8443, routed(), route, ".spec.rules[0].backendRefs[0].port", 8443},
		{"service.nodePort", 30443, with("service.type", "NodePort"), service, ".spec.ports[0].nodePort", 30443},
		{"service.annotations", m{"a": "b"}, nil, service, ".metadata.annotations.a", "b"},
		{"service.loadBalancerClass", "a.example/b", balanced, service, ".spec.loadBalancerClass", "a.example/b"},
		{"service.loadBalancerSourceRanges", list{"10.0.0.0/8"}, balanced, service, ".spec.loadBalancerSourceRanges", list{"10.0.0.0/8"}},
		{"service.externalTrafficPolicy", "Local", balanced, service, ".spec.externalTrafficPolicy", "Local"},
		{"service.internalTrafficPolicy", "Local", nil, service, ".spec.internalTrafficPolicy", "Local"},
		{"service.trafficDistribution", "PreferSameZone", nil, service, ".spec.trafficDistribution", "PreferSameZone"},
		{"service.sessionAffinity", "ClientIP", nil, service, ".spec.sessionAffinity", "ClientIP"},
		{"exchange.url", exchangeURL, nil, service, `.spec.ports[?(@.name=="exchange")]`, m{"name": "exchange", "port": 8444, "targetPort": "exchange"}},
		{"service.exchangePort", 9444, with("exchange.url", exchangeURL), service, `.spec.ports[?(@.name=="exchange")].port`, 9444},
		{"service.exchangeNodePort", 30444, with("exchange.url", exchangeURL, "service.type", "NodePort"), service, `.spec.ports[?(@.name=="exchange")].nodePort`, 30444},
		{"exchange.url", exchangeURL, guarded, policy, ".spec.ingress[1]", m{"ports": list{m{"port": "exchange", "protocol": "TCP"}}}},
		{"networkPolicy.exchangeFrom", peers, with("networkPolicy.enabled", true, "exchange.url", exchangeURL), policy, ".spec.ingress[1].from", peers},
		{"networkPolicy.enabled", true, nil, policy, ".spec.policyTypes", list{"Ingress", "Egress"}},
		{"networkPolicy.from", peers, guarded, policy, ".spec.ingress[0].from", peers},
		{"networkPolicy.opsFrom", peers, guarded, policy, ".spec.ingress[1]", m{"from": peers, "ports": list{m{"port": "ops", "protocol": "TCP"}}}},
		{"networkPolicy.egressPorts", list{8443}, guarded, policy, ".spec.egress[1].ports", list{m{"port": 8443, "protocol": "TCP"}}},
		{"networkPolicy.extraEgress", list{m{"to": peers}}, guarded, policy, ".spec.egress[2]", m{"to": peers}},
		{"tlsRoute.enabled", true, with("tlsRoute.parentRefs", list{m{"name": "edge"}}, "tlsRoute.hostnames", list{"k8s.example.com"}), route, ".spec.rules[0].backendRefs[0]", m{"name": "gatehouse", "port": 443}},
		{"tlsRoute.apiVersion", "gateway.networking.k8s.io/v1alpha2", routed(), route, ".apiVersion", "gateway.networking.k8s.io/v1alpha2"},
		{"tlsRoute.annotations", m{"a": "b"}, routed(), route, ".metadata.annotations.a", "b"},
		{"tlsRoute.parentRefs", list{m{"name": "other"}}, routed(), route, ".spec.parentRefs", list{m{"name": "other"}}},
		{"tlsRoute.hostnames", list{"other.example.com"}, routed(), route, ".spec.hostnames", list{"other.example.com"}},
		{"tls.existingSecret", "mine", certified(), certificate, ".spec.secretName", "mine"},
		{"tls.certManager.enabled", true, with("tls.certManager.issuerRef.name", "ca"), certificate, ".spec.secretName", "gatehouse-tls"},
		{"tls.certManager.issuerRef.name", "other", certified(), certificate, ".spec.issuerRef.name", "other"},
		{"tls.certManager.issuerRef.kind", "Issuer", certified(), certificate, ".spec.issuerRef.kind", "Issuer"},
		{"tls.certManager.issuerRef.group", "example.com", certified(), certificate, ".spec.issuerRef.group", "example.com"},
		{"tls.certManager.dnsNames", list{"k8s.example.com"}, certified(), certificate, ".spec.dnsNames", list{"k8s.example.com", "gatehouse.gatehouse.svc"}},
		{"tlsRoute.enabled", true, certified().set("tlsRoute.parentRefs", list{m{"name": "edge"}}).set("tlsRoute.hostnames", list{"k8s.example.com"}), certificate, ".spec.dnsNames", list{"k8s.example.com", "gatehouse.gatehouse.svc"}},
		{"tls.certManager.ipAddresses", list{"192.0.2.1"}, certified(), certificate, ".spec.ipAddresses", list{"192.0.2.1"}},
		{"tls.certManager.duration", "24h", certified(), certificate, ".spec.duration", "24h"},
		{"tls.certManager.renewBefore", "8h", certified(), certificate, ".spec.renewBefore", "8h"},
		{"tls.certManager.privateKey.algorithm", "RSA", certified(), certificate, ".spec.privateKey.algorithm", "RSA"},
		{"tls.certManager.privateKey.size", 384, certified(), certificate, ".spec.privateKey.size", 384},
		{"tls.certManager.privateKey.rotationPolicy", "Never", certified(), certificate, ".spec.privateKey.rotationPolicy", "Never"},
	}
	return rows
}

func metricsRows() []row {
	const monitor, rule, dashboard = "ServiceMonitor/gatehouse", "PrometheusRule/gatehouse", "ConfigMap/gatehouse-dashboard"
	watched, ruled, drawn := with("metrics.serviceMonitor.enabled", true), with("metrics.prometheusRule.enabled", true), with("metrics.dashboard.enabled", true)
	relabel := list{m{"action": "labeldrop", "regex": "x"}}
	return []row{
		{"metrics.service.enabled", false, nil, "Service/gatehouse-ops", "", false},
		{"metrics.service.annotations", m{"a": "b"}, nil, "Service/gatehouse-ops", ".metadata.annotations.a", "b"},
		{"ports.ops", 9080, nil, "Service/gatehouse-ops", ".spec.ports[0].port", 9080},
		{"metrics.serviceMonitor.enabled", true, nil, monitor, ".spec.endpoints[0].port", "ops"},
		{"metrics.serviceMonitor.labels", m{"a": "b"}, watched, monitor, ".metadata.labels.a", "b"},
		{"metrics.serviceMonitor.interval", "9s", watched, monitor, ".spec.endpoints[0].interval", "9s"},
		{"metrics.serviceMonitor.scrapeTimeout", "9s", watched, monitor, ".spec.endpoints[0].scrapeTimeout", "9s"},
		{"metrics.serviceMonitor.relabelings", relabel, watched, monitor, ".spec.endpoints[0].relabelings", relabel},
		{"metrics.serviceMonitor.metricRelabelings", relabel, watched, monitor, ".spec.endpoints[0].metricRelabelings", relabel},
		{"metrics.prometheusRule.enabled", true, nil, rule, ".spec.groups[0].name", "gatehouse"},
		{"metrics.prometheusRule.labels", m{"a": "b"}, ruled, rule, ".metadata.labels.a", "b"},
		{"metrics.dashboard.enabled", true, nil, dashboard, ".metadata.labels.grafana_dashboard", "1"},
		{"metrics.dashboard.labels.grafana_dashboard", "yes", drawn, dashboard, ".metadata.labels.grafana_dashboard", "yes"},
		{"metrics.dashboard.annotations", m{"a": "b"}, drawn, dashboard, ".metadata.annotations.a", "b"},
	}
}
