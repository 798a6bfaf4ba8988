package scope

import (
	"slices"
	"strings"
)

// apiGroup is what Kubernetes itself has in an API group: names of resources and
// subresources, with spaces between them.
type apiGroup struct{ name, inNamespaces, clusterWide string }

// known are the API groups of Kubernetes itself (v1.37), and metrics. A list of
// what somebody may do needs them where a * holds something that a scope takes
// away. A resource that is not here is taken for one in namespaces.
var known = [...]apiGroup{
	{
		name: "",
		inNamespaces: "bindings configmaps endpoints events limitranges persistentvolumeclaims " +
			"persistentvolumeclaims/status pods pods/attach pods/binding pods/ephemeralcontainers " +
			"pods/eviction pods/exec pods/log pods/portforward pods/proxy pods/resize pods/status " +
			"podtemplates replicationcontrollers replicationcontrollers/scale replicationcontrollers/status " +
			"resourcequotas resourcequotas/status secrets serviceaccounts serviceaccounts/token services " +
			"services/proxy services/status",
		clusterWide: "componentstatuses namespaces namespaces/finalize namespaces/status nodes nodes/proxy " +
			"nodes/status persistentvolumes persistentvolumes/status",
	},
	{
		name: "admissionregistration.k8s.io",
		clusterWide: "mutatingadmissionpolicies mutatingadmissionpolicybindings mutatingwebhookconfigurations " +
			"validatingadmissionpolicies validatingadmissionpolicies/status validatingadmissionpolicybindings " +
			"validatingwebhookconfigurations",
	},
	{
		name:        "apiextensions.k8s.io",
		clusterWide: "customresourcedefinitions customresourcedefinitions/status",
	},
	{
		name:        "apiregistration.k8s.io",
		clusterWide: "apiservices apiservices/status",
	},
	{
		name: "apps",
		inNamespaces: "controllerrevisions daemonsets daemonsets/status deployments deployments/scale " +
			"deployments/status replicasets replicasets/scale replicasets/status statefulsets " +
			"statefulsets/scale statefulsets/status",
	},
	{
		name:        "authentication.k8s.io",
		clusterWide: "selfsubjectreviews tokenreviews",
	},
	{
		name:         "authorization.k8s.io",
		inNamespaces: "localsubjectaccessreviews",
		clusterWide:  "selfsubjectaccessreviews selfsubjectrulesreviews subjectaccessreviews",
	},
	{
		name:         "autoscaling",
		inNamespaces: "horizontalpodautoscalers horizontalpodautoscalers/status",
	},
	{
		name:         "batch",
		inNamespaces: "cronjobs cronjobs/status jobs jobs/status",
	},
	{
		name:         "certificates.k8s.io",
		inNamespaces: "podcertificaterequests podcertificaterequests/status",
		clusterWide: "certificatesigningrequests certificatesigningrequests/approval certificatesigningrequests/status " +
			"clustertrustbundles",
	},
	{
		name:         "coordination.k8s.io",
		inNamespaces: "leases",
	},
	{
		name:         "discovery.k8s.io",
		inNamespaces: "endpointslices",
	},
	{
		name:         "events.k8s.io",
		inNamespaces: "events",
	},
	{
		name:        "flowcontrol.apiserver.k8s.io",
		clusterWide: "flowschemas flowschemas/status prioritylevelconfigurations prioritylevelconfigurations/status",
	},
	{
		name:        "internal.apiserver.k8s.io",
		clusterWide: "storageversions storageversions/status",
	},
	{
		name:         "metrics.k8s.io",
		inNamespaces: "pods",
		clusterWide:  "nodes",
	},
	{
		name:         "networking.k8s.io",
		inNamespaces: "ingresses ingresses/status networkpolicies",
		clusterWide:  "ingressclasses ipaddresses servicecidrs servicecidrs/status",
	},
	{
		name:        "node.k8s.io",
		clusterWide: "runtimeclasses",
	},
	{
		name:         "policy",
		inNamespaces: "poddisruptionbudgets poddisruptionbudgets/status",
	},
	{
		name:         "rbac.authorization.k8s.io",
		inNamespaces: "rolebindings roles",
		clusterWide:  "clusterrolebindings clusterroles",
	},
	{
		name:         "resource.k8s.io",
		inNamespaces: "resourceclaims resourceclaims/status resourceclaimtemplates",
		clusterWide:  "deviceclasses devicetaintrules devicetaintrules/status resourceslices",
	},
	{
		name:        "scheduling.k8s.io",
		clusterWide: "priorityclasses",
	},
	{
		name:         "storage.k8s.io",
		inNamespaces: "csistoragecapacities",
		clusterWide: "csidrivers csinodes csinodes/status storageclasses volumeattachments volumeattachments/status " +
			"volumeattributesclasses",
	},
	{
		name:        "storagemigration.k8s.io",
		clusterWide: "storageversionmigrations storageversionmigrations/status",
	},
}

// ofKubernetes returns the one of known with this name, or nil.
func ofKubernetes(group string) *apiGroup {
	for i := range known {
		if known[i].name == group {
			return &known[i]
		}
	}
	return nil
}

// Known reports whether a resource, or a subresource as pods/log, is one of
// Kubernetes itself.
func Known(group, resource string) bool {
	g := ofKubernetes(group)
	return g != nil && slices.Contains(g.names(), resource)
}

// mayHold reports whether a resource is known to be in group, or nothing is known
// of that.
func mayHold(group, resource string) bool {
	return ofKubernetes(group) == nil || Known(group, resource)
}

// names returns all names of g.
func (g apiGroup) names() []string {
	return append(strings.Fields(g.inNamespaces), strings.Fields(g.clusterWide)...)
}

// ClusterWide reports whether a resource is one of Kubernetes itself that is in no
// namespace. Of All groups it reports whether that is so in one of them.
func ClusterWide(group, resource string) bool {
	for _, g := range known {
		if !mayBe(group, g.name) {
			continue
		}
		for name := range strings.FieldsSeq(g.clusterWide) {
			if name == resource {
				return true
			}
		}
	}
	return false
}
