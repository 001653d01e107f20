package plugin_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/plugin"
	"github.com/meshprobe/httpsmeshprobe/test/apiserver"
)

// onCluster are calls of every command that talks to a cluster.
var onCluster = map[string][]string{
	"get":     {"get"},
	"watch":   {"get", "--watch"},
	"run":     {"run", "--mtls", "STRICT"},
	"trigger": {"trigger", "--all"},
	"explain": {"explain", "strict"},
}

func TestNoCluster(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "nowhere"))
	for name, arguments := range onCluster {
		t.Run(name, func(t *testing.T) {
			wantFailure(t, callWith(t.Context(), "", arguments...), "no cluster is configured", "KUBECONFIG")
			wantFailure(t, callWith(t.Context(), "", append(arguments, "--server", "https://"+address)...), "cannot reach the cluster at https://"+address, "connection refused")
		})
	}
}

func TestUnknownContext(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	const config = `{apiVersion: v1, kind: Config, contexts: [{name: staging, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}], users: [{name: u, user: {}}]}`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, callWith(t.Context(), "", "get", "--kubeconfig", file, "--context", "stagign"), `no context "stagign"`, `did you mean "staging"?`)
	wantFailure(t, callWith(t.Context(), "", "get", "--kubeconfig", file, "--context", "xyz"), `no context "xyz"`, "get-contexts")
}

func TestResourceDefinitionAbsent(t *testing.T) {
	needAPIServer(t)
	for name, arguments := range onCluster {
		t.Run(name, func(t *testing.T) {
			got := callWith(t.Context(), "", append(arguments, "--kubeconfig", apiserver.Kubeconfig(bare))...)
			wantFailure(t, got, "does not know HTTPSMeshProbe", "kubectl apply -k config/default")
		})
	}
}

func TestMissingRights(t *testing.T) {
	ns := namespace(t)
	newProbe(t, ns, "strict")
	for name, c := range map[string]struct {
		arguments   []string
		verb, grant string
	}{
		"get":     {[]string{"get"}, "list", "httpsmeshprobe-viewer"},
		"by name": {[]string{"get", "strict"}, "get", "httpsmeshprobe-viewer"},
		"run":     {[]string{"run", "--mtls", "STRICT"}, "create", "httpsmeshprobe-editor"},
		"trigger": {[]string{"trigger", "strict"}, "get", "httpsmeshprobe-viewer"},
	} {
		t.Run(name, func(t *testing.T) {
			got := call(t, append(c.arguments, "-n", ns, "--as", "jane")...)
			wantFailure(t, got, "you (jane) have no right to "+c.verb+" httpsmeshprobes.meshprobe.dev in namespace "+ns, c.grant)
		})
	}
	t.Run("everywhere", func(t *testing.T) {
		wantFailure(t, call(t, "get", "-A", "--as", "jane"), "no right to list httpsmeshprobes.meshprobe.dev in the whole cluster")
	})
	t.Run("a viewer triggers", func(t *testing.T) {
		mayView(t, ns, "victor")
		if got := call(t, "get", "-n", ns, "--as", "victor"); got.code != plugin.ExitVerified {
			t.Fatalf("a viewer's get: %+v", got)
		}
		wantFailure(t, call(t, "trigger", "strict", "-n", ns, "--as", "victor"), "no right to patch", "httpsmeshprobe-editor")
	})
	t.Run("a viewer mistypes", func(t *testing.T) {
		wantFailure(t, call(t, "get", "strct", "-n", ns, "--as", "victor"), `"strct" not found`, `did you mean "strict"?`)
	})
	wantFailure(t, callWith(t.Context(), "", "get", "--kubeconfig", anonymous(t)), "your credentials")
}

// mayView gives a user the role that is deployed for viewers, in one namespace.
func mayView(t *testing.T, namespace, user string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", "probe_viewer_role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.UnmarshalStrict(content, role); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{}
	binding.Namespace, binding.Name = namespace, user
	binding.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name}
	binding.Subjects = []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}}
	for _, object := range []client.Object{role, binding} {
		if err := admin.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

// anonymous is a kubeconfig with a token that nobody has issued.
func anonymous(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(apiserver.Kubeconfig(withCRD))
	if err != nil {
		t.Fatal(err)
	}
	config := map[string]any{}
	if err := yaml.Unmarshal(content, &config); err != nil {
		t.Fatal(err)
	}
	for _, user := range config["users"].([]any) {
		user.(map[string]any)["user"] = map[string]any{"token": "nobody"}
	}
	changed, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestMistypedNames(t *testing.T) {
	ns, other := namespace(t), namespace(t)
	newProbe(t, ns, "strict")
	newProbe(t, ns, "permissive")
	newProbe(t, other, "elsewhere")
	for _, command := range []string{"get", "trigger", "explain"} {
		wantFailure(t, call(t, command, "strct", "-n", ns), `httpsmeshprobe "strct" not found in namespace `+ns+`; did you mean "strict"?`)
		wantFailure(t, call(t, command, "elsewhere", "-n", ns), "there is one in namespace "+other)
		wantFailure(t, call(t, command, "nonesuch", "-n", ns), `"nonesuch" not found in namespace `+ns+"\n")
		wantFailure(t, call(t, command, "strict", "-n", ns+"x"), `there is no namespace "`+ns+`x"`, ns)
	}
	wantFailure(t, call(t, "run", "--task", "-n", ns+"x"), `there is no namespace "`+ns+`x"`)
	wantFailure(t, call(t, "get", "-n", ns+"x"), `there is no namespace "`+ns+`x"`)
	wantFailure(t, call(t, "get", "pod/strict", "-n", ns), `"pod/strict" is no httpsmeshprobe`)
}

// Bad flags and arguments need no cluster to be found out.
func TestMistypedFlags(t *testing.T) {
	for arguments, part := range map[string]string{
		"gte":                                    `there is no command "gte"; did you mean "get"?`,
		"foo":                                    `there is no command "foo"`,
		"get --nmespace x":                       `unknown flag: --nmespace; did you mean "namespace"?`,
		"get -o jsn":                             `there is no output format "jsn"; did you mean "json"`,
		"get -o nothing":                         "--help",
		"get -l a=b=c":                           `--selector "a=b=c"`,
		"get strict -A":                          "leave out --all-namespaces",
		"get strict -l a=b":                      "either names or --selector",
		"run":                                    "say what to probe",
		"run --mtls STRCT":                       `must be one of UNSET, DISABLE, PERMISSIVE, STRICT; did you mean "STRICT"?`,
		"run --sidecar on":                       "must be one of Enabled, Disabled",
		"run --client-mode ISTIO-MUTUAL":         `did you mean "ISTIO_MUTUAL"?`,
		"run --task -o xml":                      "must be one of text, json, junit, tap",
		"run --task -f x":                        "either -f or --task",
		"run --mtls STRICT -f x":                 "--mtls describes a probe",
		"run --port 443":                         "add --service NAME",
		"run --task --timeout 0s":                "--timeout must be more than 0",
		"run --task --timeout soon":              "invalid duration",
		"run strict":                             `takes no arguments, and there is "strict"`,
		"run -f testdata/nonesuch.yaml":          "cannot read testdata/nonesuch.yaml: no such file",
		"trigger":                                "say which probes",
		"trigger strict --all --timeout -1s":     "--timeout must be more than 0",
		"version now":                            "takes no arguments",
		"completion":                             "takes one of kubectl, bash",
		"completion tcsh":                        "takes one of kubectl, bash",
		"run --mtls STRICT --namespace a --quux": "unknown flag: --quux",
	} {
		t.Run(arguments, func(t *testing.T) {
			wantFailure(t, callWith(t.Context(), "", strings.Fields(arguments)...), part)
		})
	}
}

const (
	good = `apiVersion: meshprobe.dev/v1alpha1
kind: HTTPSMeshProbe
metadata: {name: good}
spec: {target: {sidecar: Enabled}, mtls: {mode: STRICT}}
`
	policy = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: policy}
`
)

// Whatever is wrong with one document, none of its neighbours is created.
func TestBadDocuments(t *testing.T) {
	ns := namespace(t)
	for name, c := range map[string]struct{ content, part string }{
		"another kind":         {good + "---\n" + policy, "FILE, document 2: it is a PeerAuthentication, and is to be a HTTPSMeshProbe"},
		"no kind":              {"a: b", "FILE: it has no kind"},
		"another version":      {strings.Replace(good, "v1alpha1", "v1", 1), `FILE: apiVersion is "meshprobe.dev/v1"`},
		"no YAML":              {"a: [", "FILE: "},
		"a list":               {"[1, 2]", "FILE: "},
		"comments":             {"# nothing\n---\n", "there is no HTTPSMeshProbe in FILE"},
		"an unknown field":     {strings.Replace(good, "mode", "mood", 1), `FILE: unknown field "mood"`},
		"an unknown mode":      {good + "---\n" + strings.Replace(good, "STRICT", "STRCT", 1), `FILE, document 2: spec.mtls.mode: Unsupported value: "STRCT"`},
		"a contradiction":      {strings.Replace(good, "Enabled", "Disabled", 1), "FILE: spec.mtls.mode: Invalid value"},
		"a name not allowed":   {strings.Replace(good, "name: good", "name: 9good", 1), "FILE: metadata.name must begin with a letter"},
		"no name":              {strings.Replace(good, "name: good", "labels: {a: b}", 1), "FILE: metadata.name is missing"},
		"suspended":            {strings.Replace(good, "mtls:", "suspend: true, mtls:", 1), "FILE: spec.suspend is true"},
		"another namespace":    {strings.Replace(good, "name: good", "name: good, namespace: shop", 1), "FILE: metadata.namespace is shop, and --namespace is " + ns},
		"a list with a policy": {"apiVersion: v1\nkind: List\nitems: [{apiVersion: security.istio.io/v1, kind: PeerAuthentication}]\n", "FILE, item 1: it is a PeerAuthentication"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "probe.yaml")
			if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			wantFailure(t, call(t, "run", "-n", ns, "-f", file), strings.ReplaceAll(c.part, "FILE", file))
			wantNothingLeft(t, ns)
			arguments := []string{"--kubeconfig", apiserver.Kubeconfig(withCRD), "run", "-n", ns, "-f", "-"}
			wantFailure(t, callWith(t.Context(), c.content, arguments...), strings.ReplaceAll(c.part, "FILE", "standard input"))
			wantNothingLeft(t, ns)
		})
	}
}

// In a folder other kinds are left out, and said to be; a probe that is misspelt is an error there too.
func TestFolders(t *testing.T) {
	ns := namespace(t)
	folder := t.TempDir()
	for name, content := range map[string]string{"a.yaml": policy, "b/good.yml": good, "README.md": "no YAML: ["} {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := call(t, "run", "-n", ns, "-f", folder, "--timeout", "1ms", "-o", "tap")
	if got.code != plugin.ExitUnknown || !strings.Contains(got.out, "not ok 1 - "+ns+"/good\n") || !strings.Contains(got.err, "a.yaml is left out: it is a PeerAuthentication") {
		t.Errorf("a folder with a probe: %+v", got)
	}
	wantNothingLeft(t, ns)
	if err := os.WriteFile(filepath.Join(folder, "c.yaml"), []byte(strings.Replace(good, "HTTPSMeshProbe", "HTTPSMeshprobe", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, call(t, "run", "-n", ns, "-f", folder), "c.yaml: it is a HTTPSMeshprobe, and is to be a HTTPSMeshProbe")
	wantFailure(t, call(t, "run", "-n", ns, "-f", t.TempDir()), "there is no HTTPSMeshProbe in ")
}

func newProbe(t *testing.T, namespace, name string) *api.HTTPSMeshProbe {
	t.Helper()
	probe := &api.HTTPSMeshProbe{}
	probe.Namespace, probe.Name = namespace, name
	probe.Spec.Target.Sidecar, probe.Spec.MTLS.Mode = api.SidecarEnabled, api.MTLSStrict
	if err := admin.Create(t.Context(), probe); err != nil {
		t.Fatal(err)
	}
	return probe
}
