package migrate

import "slices"

// helmPodNames are the values of the charts of kube-oidc-proxy that say how its
// pods run and are reached.
const helmPodNames = "replicaCount imagePullSecrets nameOverride fullnameOverride service rollingUpdateStrategy podDisruptionBudget resources initContainers nodeSelector tolerations affinity " +
	"topologySpreadConstraints priorityClassName podAnnotations podSecurityContext securityContext extraVolumes extraVolumeMounts metrics networkPolicy dashboards rbac test"

// helmPods are those that gatehouse's chart has in the same form. What else there
// is depends on the program, such as resources, or on its labels, such as affinity.
type helmPods struct {
	ReplicaCount        *int                 `yaml:"replicaCount"`
	Service             helmService          `yaml:"service"`
	PodDisruptionBudget helmDisruptionBudget `yaml:"podDisruptionBudget"`
	NodeSelector        map[string]string    `yaml:"nodeSelector"`
	Tolerations         []map[string]any     `yaml:"tolerations"`
	PriorityClassName   string               `yaml:"priorityClassName"`
	PodAnnotations      map[string]string    `yaml:"podAnnotations"`
	Metrics             helmMetrics          `yaml:"metrics"`
}

type helmService struct {
	Type                     string            `yaml:"type"`
	Port                     int               `yaml:"port"`
	Annotations              map[string]string `yaml:"annotations"`
	LoadBalancerIP           string            `yaml:"loadBalancerIP"`
	LoadBalancerSourceRanges []string          `yaml:"loadBalancerSourceRanges"`
	InternalTrafficPolicy    string            `yaml:"internalTrafficPolicy"`
	ExternalTrafficPolicy    string            `yaml:"externalTrafficPolicy"`
	TrafficDistribution      string            `yaml:"trafficDistribution"`
	SessionAffinity          string            `yaml:"sessionAffinity"`
}

type helmDisruptionBudget struct {
	Enabled        bool `yaml:"enabled"`
	MinAvailable   any  `yaml:"minAvailable"`
	MaxUnavailable any  `yaml:"maxUnavailable"`
}

// helmMetrics are RafPe's. Either switch starts the listener.
type helmMetrics struct {
	Enabled        bool   `yaml:"enabled"`
	BindAddress    string `yaml:"bindAddress"`
	Port           string `yaml:"port"` // default: 9090
	ServiceMonitor struct {
		Enabled bool `yaml:"enabled"`
	} `yaml:"serviceMonitor"`
}

// address returns where metrics are served, or "" if they are not.
func (m *helmMetrics) address() string {
	switch {
	case !m.Enabled && !m.ServiceMonitor.Enabled:
		return ""
	case m.BindAddress != "":
		return m.BindAddress
	case m.Port != "":
		return ":" + m.Port
	}
	return ":9090"
}

// helmTLS is where the serving certificate comes from.
type helmTLS struct {
	SecretName  string `yaml:"secretName"`
	CertManager bool   `yaml:"certManager"`
	SelfSigned  *bool  `yaml:"selfSigned"` // default: true
	IssuerName  string `yaml:"issuerName"`
}

// addPods adds what gatehouse's chart, if that is wanted, takes over, and returns
// the names of it.
func (v *helmValues) addPods(line *command, chart bool) []string {
	if !chart {
		return nil
	}
	line.pods = map[string]any{}
	var carried []string
	add := func(path string, value any, given bool) {
		if given {
			put(line.pods, path, value)
			carried = append(carried, topOf(path))
		}
	}
	if v.ReplicaCount != nil {
		add("replicaCount", *v.ReplicaCount, true)
	}
	s := &v.Service
	add("service.type", s.Type, s.Type != "")
	add("service.port", s.Port, s.Port != 0)
	add("service.annotations", s.Annotations, len(s.Annotations) > 0)
	add("service.loadBalancerSourceRanges", s.LoadBalancerSourceRanges, len(s.LoadBalancerSourceRanges) > 0)
	add("service.internalTrafficPolicy", s.InternalTrafficPolicy, s.InternalTrafficPolicy != "")
	add("service.externalTrafficPolicy", s.ExternalTrafficPolicy, s.ExternalTrafficPolicy != "")
	add("service.trafficDistribution", s.TrafficDistribution, s.TrafficDistribution != "")
	add("service.sessionAffinity", s.SessionAffinity, s.SessionAffinity != "")
	if b := &v.PodDisruptionBudget; b.Enabled {
		// In gatehouse's chart minAvailable counts before maxUnavailable, in RafPe's the
		// other way round.
		most := b.MaxUnavailable != nil && b.MaxUnavailable != ""
		add("podDisruptionBudget.maxUnavailable", b.MaxUnavailable, most)
		add("podDisruptionBudget.minAvailable", b.MinAvailable, !most && b.MinAvailable != nil)
	}
	add("nodeSelector", v.NodeSelector, len(v.NodeSelector) > 0)
	add("tolerations", v.Tolerations, len(v.Tolerations) > 0)
	add("priorityClassName", v.PriorityClassName, v.PriorityClassName != "")
	add("podAnnotations", v.PodAnnotations, len(v.PodAnnotations) > 0)
	add("metrics.serviceMonitor.enabled", true, v.Metrics.ServiceMonitor.Enabled)
	v.TLS.carry(line.pods)
	slices.Sort(carried)
	return slices.Compact(carried)
}

// carry writes where the serving certificate comes from: a Secret, which counts
// first, or an Issuer of the operator's.
func (t *helmTLS) carry(values map[string]any) {
	switch {
	case t.SecretName != "":
		put(values, "tls.existingSecret", t.SecretName)
	case t.CertManager && t.IssuerName != "":
		put(values, "tls.certManager.enabled", true)
		put(values, "tls.certManager.issuerRef.name", t.IssuerName)
		put(values, "tls.certManager.issuerRef.kind", "Issuer")
	}
}
