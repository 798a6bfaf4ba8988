package migrate

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Why flags of azad-kube-proxy have no counterpart.
const (
	noCORS      = "gatehouse gives browsers of other origins no leave: it is for kubectl and the like."
	noMaxGroups = "gatehouse has no such number: all groups of a token are carried, as far as its header has room; of groups that are looked up, more than 2000 are refused."
	noNameStart = "gatehouse knows groups by their id alone, and so cannot leave out those whose name begins in another way. This carries groups that were left out: let the application's tokens hold only \"Groups assigned to the application\", and name ids in GATEHOUSE_ENTRA_GROUPS for those that are looked up."
	noCache     = "gatehouse's replicas share nothing, and keep what they know in memory."
	noMetrics   = "gatehouse's metrics are Prometheus's, at /metrics beside /readyz."
)

// entraSecretPath is where azad-kube-proxy's client secret has to be.
const entraSecretPath = "/etc/gatehouse/entra/client-secret"

// azadFlags are the flags of azad-kube-proxy (internal/proxy/config.go, and those of versions with Redis).
// Each may stand in a variable too.
func azadFlags() []flag {
	flags := []flag{
		{name: "client-id"}, {name: "client-secret"}, {name: "tenant-id"},
		{name: "group-identifier"}, {name: "group-sync-interval"},
		{name: "azure-ad-group-prefix", why: noNameStart}, {name: "azure-ad-max-group-count", why: noMaxGroups},
		{name: "address"}, {name: "port"}, {name: "metrics-address"}, {name: "metrics-port"},
		{name: "tls-enabled", kind: boolean}, {name: "tls-certificate-path"}, {name: "tls-key-path"},
		{name: "kubernetes-api-tls", kind: boolean}, {name: "kubernetes-api-validate-cert", kind: boolean},
		{name: "cors-enabled", kind: boolean},
	}
	return append(flags, flagsWithout([]reason{
		{inKubeconfig, "kubernetes-api-host kubernetes-api-port kubernetes-api-ca-cert-path kubernetes-api-token-path"},
		{noCORS, "cors-allowed-headers cors-allowed-methods cors-allowed-origins cors-allowed-origins-default-scheme"},
		{noCache, "cache-engine redis-uri"},
		{noMetrics, "metrics"},
		{noOneShot, "version? help!"},
	})...)
}

// azadVariables returns the flags that variables of c stand for, if c is
// azad-kube-proxy, and where its client secret comes from. The secret itself is
// not among them.
func (c *container) azadVariables(objects []*object) (flags []string, secret origin, err error) {
	if imageOf(c.Image) != AzadKubeProxy && (len(c.Command) == 0 || program(c.Command[0]) != AzadKubeProxy) {
		return nil, origin{}, nil
	}
	all, missing := c.allVariables(objects)
	if missing != "" {
		return nil, origin{}, fmt.Errorf("its variables are in the %s, which is not in the input: add it", missing)
	}
	for _, one := range azadFlags() {
		for _, v := range all {
			if v.Name != strings.ToUpper(strings.ReplaceAll(one.name, "-", "_")) {
				continue
			}
			switch from := v.ValueFrom; {
			case one.name == "client-secret" && from.SecretKeyRef.Name != "":
				secret = origin{"Secret", from.SecretKeyRef.Name, from.SecretKeyRef.Key}
				flags = append(flags, "--client-secret=given")
			case one.name == "client-secret":
				flags = append(flags, "--client-secret=given")
			default:
				flags = append(flags, "--"+one.name+"=$("+v.Name+")") // as for an argument
			}
		}
	}
	return flags, secret, nil
}

// azadKubeProxy translates the flags of azad-kube-proxy.
func (t *translation) azadKubeProxy() error {
	if err := t.addTenant(); err != nil {
		return err
	}
	if err := t.addGroupLookup(); err != nil {
		return err
	}
	t.addAzadAddresses()
	t.translatePlain()
	f := t.flags
	for _, name := range []string{"kubernetes-api-tls", "kubernetes-api-validate-cert"} {
		if f.get(name) == "false" {
			t.note(LeftOut, "--%s=false: %s", name, noInsecure)
		}
	}
	if f.get("cors-enabled") != "false" {
		t.note(Differs, "CORS: azad-kube-proxy lets browsers of other origins ask, unless --cors-enabled=false. gatehouse does not.")
	}
	t.set("IMPERSONATION", "false")
	t.note(Kept, "azad-kube-proxy refuses --as, and so does gatehouse with GATEHOUSE_IMPERSONATION=false. Without it the cluster's rules decide.")
	t.note(Differs, "who is refused gets a Status that says why, where azad-kube-proxy answers in plain text: change scripts that read it.")
	t.noteReserved()
	t.note(Differs, "azad-kube-proxy does not look at which client fetched a token. gatehouse takes tokens whose azp is --client-id or in GATEHOUSE_AUTHORIZED_PARTIES: list there the ids of the clients that people use, such as 04b07795-8ddb-461a-bbee-02f9e1bf7b46 for Azure CLI, by which `kubectl azad-proxy` logs in, and those of workloads.")
	t.noteTokens()
	return nil
}

// addTenant adds the tenant as the issuer, with the names that azad-kube-proxy
// gives: the preferred_username, or the object's id, and groups without a prefix.
func (t *translation) addTenant() error {
	tenant, client := t.flags.get("tenant-id"), t.flags.get("client-id")
	if tenant == "" || client == "" {
		return errors.New("--tenant-id and --client-id are needed, or TENANT_ID and CLIENT_ID in the container's variables")
	}
	t.issuers = append(t.issuers, issuer{
		url: "https://login.microsoftonline.com/" + tenant + "/v2.0", audiences: []string{client},
		usernameExpression: `claims.?preferred_username.orValue("") != "" ? claims.preferred_username : claims.oid`,
		groups:             "groups",
		required:           []pair{{"tid", tenant}},
	})
	t.note(Kept, "people are named by preferred_username, and workloads by oid, with nothing before it, as azad-kube-proxy names them. A preferred_username changes with the person's address, and may be given to somebody else: docs/how-to/entra-id.md names them by oid.")
	return nil
}

// addGroupLookup has gatehouse ask Microsoft Graph, as azad-kube-proxy does.
func (t *translation) addGroupLookup() error {
	f := t.flags
	t.set("ENTRA_TENANT_ID", f.get("tenant-id"))
	t.set("ENTRA_CLIENT_ID", f.get("client-id"))
	t.setFile("ENTRA_CLIENT_SECRET_FILE", entraSecretPath)
	switch {
	case t.secret.name == "":
		t.note(ToDo, "write the client secret of azad-kube-proxy to %s. It is not repeated here.", entraSecretPath)
	case !t.Chart:
		t.note(ToDo, "mount the key %s of the Secret %s, azad-kube-proxy's client secret, as %s.", t.secret.key, t.secret.name, entraSecretPath)
	}
	switch identifier := f.get("group-identifier"); identifier {
	case "", "NAME":
		t.note(Differs, "--group-identifier=NAME, the default: azad-kube-proxy names groups by their display name. gatehouse carries what the token holds, ids, which no administrator of a group can change: bind roles to ids. Until then nobody has the roles of their groups.")
	case "OBJECTID":
		t.note(Kept, "--group-identifier=OBJECTID: groups keep their names in RBAC, ids with nothing before them.")
	default:
		return errors.New("--group-identifier: it is neither NAME nor OBJECTID")
	}
	t.note(Differs, "azad-kube-proxy asks Microsoft Graph for everybody's groups. gatehouse takes them from the token's claim groups, and asks Graph for people in more than 200: let the application's tokens hold the claim (groupMembershipClaims), or nobody has groups. Workloads in so many are refused.")
	minutes := f.get("group-sync-interval")
	if minutes == "" || minutes == "5" {
		return nil
	}
	n, err := strconv.Atoi(minutes)
	switch {
	case err != nil || n < 1:
		return errors.New("--group-sync-interval: it is no number of minutes")
	case n > 60:
		n = 60
		t.note(Differs, "--group-sync-interval: gatehouse uses an answer of Graph for an hour at most.")
	}
	t.set("ENTRA_GROUPS_MAX_AGE", strconv.Itoa(n)+"m")
	return nil
}

// addAzadAddresses translates where azad-kube-proxy listens, and by which
// certificate.
func (t *translation) addAzadAddresses() {
	f := t.flags
	port, ops := f.get("port"), f.get("metrics-port")
	if port == "" {
		port = "8080"
	}
	if ops == "" {
		ops = "8081"
	}
	t.listen(f.get("address"), port)
	host := f.get("metrics-address")
	if host == "0.0.0.0" || host == "::" {
		host = ""
	}
	if address := net.JoinHostPort(host, ops); address != ":8080" {
		t.set("OPS_ADDRESS", address)
	}
	t.note(Differs, "liveness is at /livez, where it was /healthz, on port %s: change the probe.", ops)
	if f.on("tls-enabled") {
		t.setFile("TLS_CERT_FILE", f.get("tls-certificate-path"))
		t.setFile("TLS_KEY_FILE", f.get("tls-key-path"))
		return
	}
	if f.on("tls-certificate-path") || f.on("tls-key-path") {
		t.note(LeftOut, "--tls-certificate-path, --tls-key-path: azad-kube-proxy does not look at them without --tls-enabled.")
	}
	t.note(Differs, "azad-kube-proxy speaks plain HTTP without --tls-enabled, behind an ingress that ends TLS. gatehouse speaks TLS alone: let the ingress pass it through, or speak TLS to gatehouse and stand in GATEHOUSE_TRUSTED_PROXIES.")
}
