package cluster

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// issuer is the issuer of the cluster's ServiceAccount tokens, and their
// default audience, unless the API server publishes it.
const issuer = "https://kubernetes.default.svc.cluster.local"

// NodeName is the node of a cluster that has one.
const NodeName = "node-1"

// apiServerName is whom a node expects to be asked by.
const apiServerName = "kube-apiserver-kubelet-client"

// auditPolicy records who asked for what, once for each request. Of the group
// audit-rules it does so by every kind of rule: a test compares who goes by them.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [system:apiserver, admin, "system:kube-controller-manager", "system:node:node-1", "system:kube-scheduler"]
- {level: None, userGroups: [audit-rules], verbs: [get, list], resources: [{group: "", resources: [configmaps], resourceNames: [quiet]}]}
- {level: None, userGroups: ["system:authenticated"], nonResourceURLs: ["/healthz/ping*"]}
- {level: None, userGroups: [audit-rules], namespaces: [dev], resources: [{group: "", resources: ["*/log"]}]}
- {level: None, users: [quiet-user]}
- {level: Metadata, userGroups: [audit-rules], verbs: [watch], omitStages: [ResponseStarted]}
- {level: Request, userGroups: [audit-rules], verbs: [deletecollection]}
- level: Metadata
`

// files are the paths of what the cluster's processes read and write.
type files struct {
	dir                            string
	clientCA, servingCA, etcdCA    string
	serving, etcd, etcdClient      pki.Pair
	admin, controllerManager       pki.Pair
	signer                         pki.Pair // of the certificates that people request
	nodeCA                         string
	node, nodeClient               pki.Pair // of the node's port, and of the API server towards it
	kubelet, scheduler             pki.Pair // of the node towards the API server, and of who fills it
	serviceAccountKey              string
	auditPolicy, auditLog          string
	adminConfig, controllersConfig string
	nodeConfig, schedulerConfig    string
}

// newFiles makes every certificate and key below dir.
func newFiles(dir string, clientCAs []byte) (*files, error) {
	f := &files{
		dir:               dir,
		auditPolicy:       filepath.Join(dir, "audit-policy.yaml"),
		auditLog:          filepath.Join(dir, "audit.log"),
		adminConfig:       filepath.Join(dir, "admin.kubeconfig"),
		controllersConfig: filepath.Join(dir, "controller-manager.kubeconfig"),
		nodeConfig:        filepath.Join(dir, "kubelet.kubeconfig"),
		schedulerConfig:   filepath.Join(dir, "scheduler.kubeconfig"),
	}
	if err := f.makePairs(filepath.Join(dir, "pki")); err != nil {
		return nil, err
	}
	if err := f.trust(clientCAs); err != nil {
		return nil, err
	}
	if err := os.WriteFile(f.auditPolicy, []byte(auditPolicy), 0o600); err != nil {
		return nil, fmt.Errorf("write the audit policy: %w", err)
	}
	return f, nil
}

func (f *files) makePairs(dir string) error {
	clients, err := pki.NewAuthority(dir, "client-ca")
	if err != nil {
		return err
	}
	servers, err := pki.NewAuthority(dir, "serving-ca")
	if err != nil {
		return err
	}
	storage, err := pki.NewAuthority(dir, "etcd-ca") // its own: no user's certificate opens etcd
	if err != nil {
		return err
	}
	f.clientCA, f.servingCA, f.etcdCA = clients.CAFile, servers.CAFile, storage.CAFile
	if f.signer, err = clients.Signer("client-signer"); err != nil {
		return err
	}
	if f.serving, err = servers.Loopback("kube-apiserver"); err != nil {
		return err
	}
	if f.etcd, err = storage.Loopback("etcd"); err != nil {
		return err
	}
	if f.etcdClient, err = storage.User("etcd-client", "kube-apiserver"); err != nil {
		return err
	}
	if f.admin, err = clients.User("admin", "admin", "system:masters"); err != nil {
		return err
	}
	f.controllerManager, err = clients.User("controller-manager", "system:kube-controller-manager")
	if err != nil {
		return err
	}
	if err := f.makeNodePairs(dir, clients); err != nil {
		return err
	}
	f.serviceAccountKey, err = pki.Key(dir, "service-account.key")
	return err
}

// makeNodePairs makes what a node needs. The API server trusts another authority
// for nodes than its clients trust for it, and the other way round: what passes
// must do so by the settings for nodes.
func (f *files) makeNodePairs(dir string, clients *pki.Authority) error {
	nodes, err := pki.NewAuthority(dir, "node-ca")
	if err != nil {
		return err
	}
	f.nodeCA = nodes.CAFile
	if f.node, err = nodes.Loopback("node"); err != nil {
		return err
	}
	if f.nodeClient, err = nodes.User("node-client", apiServerName); err != nil {
		return err
	}
	if f.kubelet, err = clients.User("kubelet", "system:node:"+NodeName, "system:nodes"); err != nil {
		return err
	}
	f.scheduler, err = clients.User("scheduler", "system:kube-scheduler")
	return err
}

// trust adds authorities to the file of those for client certificates.
func (f *files) trust(clientCAs []byte) error {
	own, err := os.ReadFile(f.clientCA)
	if err != nil {
		return fmt.Errorf("read the client CA: %w", err)
	}
	return pki.WriteFile(f.clientCA, append(own, clientCAs...))
}

// writeKubeconfigs writes those of the admin and of the cluster's own parts.
func (f *files) writeKubeconfigs(url string) error {
	for _, who := range []struct {
		name, path string
		pair       pki.Pair
	}{
		{"admin", f.adminConfig, f.admin},
		{"controller-manager", f.controllersConfig, f.controllerManager},
		{"kubelet", f.nodeConfig, f.kubelet},
		{"scheduler", f.schedulerConfig, f.scheduler},
	} {
		file := kubeconfig.File{Cluster: "real", Server: url, CAFile: f.servingCA}
		file.Users = []kubeconfig.User{{Name: who.name, CertFile: who.pair.CertFile, KeyFile: who.pair.KeyFile}}
		if err := file.Write(who.path); err != nil {
			return err
		}
	}
	return nil
}

func (f *files) etcdArgs(client, peer int) []string {
	clientURL, peerURL := "https://"+proc.Loopback(client), "https://"+proc.Loopback(peer)
	return []string{
		"--name=etcd", "--data-dir=" + filepath.Join(f.dir, "etcd"),
		"--listen-client-urls=" + clientURL, "--advertise-client-urls=" + clientURL,
		"--listen-peer-urls=" + peerURL, "--initial-advertise-peer-urls=" + peerURL,
		"--initial-cluster=etcd=" + peerURL,
		"--cert-file=" + f.etcd.CertFile, "--key-file=" + f.etcd.KeyFile,
		"--client-cert-auth", "--trusted-ca-file=" + f.etcdCA,
		"--peer-cert-file=" + f.etcd.CertFile, "--peer-key-file=" + f.etcd.KeyFile,
		"--peer-client-cert-auth", "--peer-trusted-ca-file=" + f.etcdCA, "--enable-grpc-gateway=false",
		"--unsafe-no-fsync", "--log-level=warn", // a test's data need not survive a power cut
	}
}

func (f *files) apiServerArgs(port, etcdPort int) []string {
	return []string{
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
		"--etcd-servers=https://" + proc.Loopback(etcdPort),
		"--etcd-cafile=" + f.etcdCA, "--etcd-certfile=" + f.etcdClient.CertFile, "--etcd-keyfile=" + f.etcdClient.KeyFile,
		"--tls-cert-file=" + f.serving.CertFile, "--tls-private-key-file=" + f.serving.KeyFile,
		"--client-ca-file=" + f.clientCA,
		"--service-account-signing-key-file=" + f.serviceAccountKey,
		"--service-account-key-file=" + f.serviceAccountKey,
		"--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=Node,RBAC",
		"--kubelet-certificate-authority=" + f.nodeCA,
		"--kubelet-client-certificate=" + f.nodeClient.CertFile, "--kubelet-client-key=" + f.nodeClient.KeyFile,
		"--audit-policy-file=" + f.auditPolicy, "--audit-log-path=" + f.auditLog,
		"--audit-log-mode=blocking", // written before the answer, so that a test can read it at once
		"--shutdown-delay-duration=0s",
	}
}

// issuerArgs say who issues ServiceAccount tokens, and whether a stranger may
// read with which keys they are signed.
func issuerArgs(url string, public bool) []string {
	if !public {
		return []string{"--service-account-issuer=" + issuer, "--anonymous-auth=false"}
	}
	return []string{
		"--service-account-issuer=" + url, "--service-account-jwks-uri=" + url + "/openid/v1/jwks",
		"--anonymous-auth=true", // what a stranger may read is left to RBAC
	}
}

// publicIssuer lets everybody read the discovery document and the keys, and
// nothing else. Managed clusters do the same, or keep a copy elsewhere.
const publicIssuer = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: public-service-account-issuer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:service-account-issuer-discovery"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:unauthenticated"}]
`

// controllers are those that make roles, accounts, namespaces, workloads and
// requests for certificates behave; nodes, volumes and cloud parts have nothing to do here.
const controllers = "clusterrole-aggregation-controller,serviceaccount-controller,serviceaccount-token-controller," +
	"namespace-controller,deployment-controller,replicaset-controller,garbage-collector-controller," +
	"root-ca-certificate-publisher-controller,job-controller,resourcequota-controller,certificatesigningrequest-signing-controller"

func (f *files) controllerManagerArgs() []string {
	return []string{
		"--kubeconfig=" + f.controllersConfig, "--authentication-kubeconfig=" + f.controllersConfig,
		"--authorization-kubeconfig=" + f.controllersConfig,
		"--secure-port=0", "--leader-elect=false", "--use-service-account-credentials", "--controllers=" + controllers,
		"--service-account-private-key-file=" + f.serviceAccountKey, "--root-ca-file=" + f.servingCA,
		"--cluster-signing-kube-apiserver-client-cert-file=" + f.signer.CertFile,
		"--cluster-signing-kube-apiserver-client-key-file=" + f.signer.KeyFile,
		"--kube-api-qps=200", "--kube-api-burst=400",
	}
}
