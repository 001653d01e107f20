package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Sidecar says whether an Istio sidecar stands before the server.
//
// +kubebuilder:validation:Enum=Enabled;Disabled
type Sidecar string

const (
	// SidecarEnabled puts an istio-proxy container into the server's pod.
	SidecarEnabled Sidecar = "Enabled"
	// SidecarDisabled leaves the server without one.
	SidecarDisabled Sidecar = "Disabled"
)

// MTLSMode is a mutual TLS mode of Istio's PeerAuthentication (istio.io/api security/v1beta1, MutualTLS.Mode).
//
// +kubebuilder:validation:Enum=UNSET;DISABLE;PERMISSIVE;STRICT
type MTLSMode string

const (
	// MTLSUnset inherits the mode of the namespace, else of the mesh, else PERMISSIVE. A mode of the workload's own, or of its
	// port's, refutes it.
	MTLSUnset MTLSMode = "UNSET"
	// MTLSDisable lets the sidecar pass every connection on as it is.
	MTLSDisable MTLSMode = "DISABLE"
	// MTLSPermissive accepts mutual TLS and everything else.
	MTLSPermissive MTLSMode = "PERMISSIVE"
	// MTLSStrict accepts mutual TLS alone.
	MTLSStrict MTLSMode = "STRICT"
)

// IsSet says whether the mode is one of its own and not inherited.
func (m MTLSMode) IsSet() bool { return m != "" && m != MTLSUnset }

// ClientTLSMode is what a client's sidecar does with a connection: a TLS mode of Istio's DestinationRule
// (istio.io/api networking/v1, ClientTLSSettings.TLSmode), or UNSET.
//
// +kubebuilder:validation:Enum=UNSET;DISABLE;ISTIO_MUTUAL;SIMPLE
type ClientTLSMode string

const (
	// ClientTLSUnset leaves it to auto mTLS: mutual TLS where the server's sidecar takes it.
	ClientTLSUnset ClientTLSMode = "UNSET"
	// ClientTLSDisable passes the client's bytes on as they are.
	ClientTLSDisable ClientTLSMode = "DISABLE"
	// ClientTLSIstioMutual wraps them in mutual TLS with the mesh's certificates.
	ClientTLSIstioMutual ClientTLSMode = "ISTIO_MUTUAL"
	// ClientTLSSimple wraps them in TLS without a client certificate.
	ClientTLSSimple ClientTLSMode = "SIMPLE"
)

// IsSet says whether the mode is one of its own and not left to auto mTLS.
func (m ClientTLSMode) IsSet() bool { return m != "" && m != ClientTLSUnset }

// HTTPSMeshProbeSpec says what to probe, and what must be true of it.
//
// +kubebuilder:validation:XValidation:rule="has(self.target.service) == has(oldSelf.target.service)",fieldPath=".target.service",message="target.service can be neither added nor removed: a probe with a server of its own and a probe of a Service that is already there are two probes; delete this one and create the other"
// +kubebuilder:validation:XValidation:rule="self.target.sidecar == 'Enabled' || !(self.mtls.mode in ['STRICT', 'PERMISSIVE'])",fieldPath=".mtls.mode",message="mtls.mode STRICT and PERMISSIVE are enforced by a sidecar, and target.sidecar is Disabled: set target.sidecar to Enabled, or mtls.mode to DISABLE or UNSET"
// +kubebuilder:validation:XValidation:rule="!self.timeout.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') || !self.interval.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') || duration(self.timeout) < duration(self.interval)",fieldPath=".timeout",message="timeout (5s where it is not set) must be shorter than interval, or runs would overlap: lower timeout or raise interval"
type HTTPSMeshProbeSpec struct {
	// target is the HTTPS server that is probed. Without target.service the operator runs it: an nginx behind a Service
	// on port 443, with a certificate of its own.
	// +required
	Target Target `json:"target"`

	// mtls is the mutual TLS policy that should hold before the target. With target.service it is a claim, which is
	// confirmed or refuted; otherwise the operator makes the policy.
	// +optional
	// +kubebuilder:default={}
	MTLS MTLS `json:"mtls,omitzero"`

	// expect overrides what single paths are expected to see, each with the reason why.
	// +optional
	// +listType=map
	// +listMapKey=path
	// +kubebuilder:validation:MaxItems=3
	Expect []PathExpectation `json:"expect,omitempty"`

	// revision is the Istio control plane revision (or revision tag) whose sidecars the server and the client get, as
	// in the label istio.io/rev. Empty: the default revision.
	// +optional
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="revision must be a revision or revision tag of Istio: lower-case letters, digits and '-', beginning and ending with a letter or digit"
	Revision string `json:"revision,omitempty"`

	// interval is the time between two runs; a run sends one request along every path. From 5s to 24h.
	// +optional
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$')",message="interval must be a duration such as 30s, 5m or 1h30m"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') || duration(self) >= duration('5s')",message="interval must be 5s or more"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') || duration(self) <= duration('24h')",message="interval must be 24h or less"
	Interval metav1.Duration `json:"interval,omitzero"`

	// timeout is how long one request may take, from resolving the name to the last byte of the response's header.
	// From 100ms to 1m, and shorter than interval.
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$')",message="timeout must be a duration such as 500ms or 5s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') || duration(self) >= duration('100ms')",message="timeout must be 100ms or more"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') || duration(self) <= duration('1m')",message="timeout must be 1m or less"
	Timeout metav1.Duration `json:"timeout,omitzero"`

	// failureThreshold is how many runs in a row must fail before a path's condition turns False, over at least 2s for each
	// run after the first (or interval, if that is shorter). One run that agrees turns it True again. Proof that something gets
	// in, or goes out in plaintext, that must not counts at once, and so does what Istio computes too; the former clears after
	// runs over every endpoint that agree, and at least two intervals. From 1 to 10.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	FailureThreshold int32 `json:"failureThreshold,omitempty"`

	// suspend stops the requests. What was made for the probe stays, and so does the last verdict, marked as suspended.
	// +optional
	// +kubebuilder:default=false
	Suspend bool `json:"suspend,omitempty"`
}

// Target is the HTTPS server under test.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.service) && has(self.certificate))",fieldPath=".certificate",message="target.certificate is for the server that the operator runs, and target.service names one that is already there: remove one of them"
//
// +kubebuilder:validation:XValidation:rule="!has(self.ca) || has(self.service)",fieldPath=".ca",message="target.ca is for a Service that is already there; the server that the operator runs is known by its certificate: remove ca, or name the service"
type Target struct {
	// sidecar says whether an Istio sidecar stands before the server: Enabled or Disabled. With service it is a claim,
	// which is confirmed or refuted.
	// +required
	Sidecar Sidecar `json:"sidecar"`

	// service is a Service that is already there. Nothing of it is changed, and nothing is made but the clients. It can
	// be neither added to a probe nor removed from it.
	// +optional
	Service *TargetService `json:"service,omitempty"`

	// path is the path of the HTTP request, with its query if there is one.
	// +optional
	// +kubebuilder:default="/"
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^/[!-~]*$')",message="path must begin with / and hold neither spaces nor characters that a URL has to escape"
	Path string `json:"path,omitempty"`

	// serverName goes into the TLS extension server_name (RFC 6066, section 3) and the Host header, and is the name
	// that a certificate must be for where ca is given. Empty: the Service's DNS name.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?$')",message="serverName must be a DNS name such as shop.example.com, without port"
	ServerName string `json:"serverName,omitempty"`

	// ca holds the certificates, in PEM, that the server's must chain to. Without it any certificate that is not a
	// mesh workload's counts as the server's own (as with curl -k). Only with service: the server that the operator runs
	// is known by its certificate.
	// +optional
	CA *CertificateAuthority `json:"ca,omitempty"`

	// certificate names a certificate of yours for the server that the operator runs, for example cert-manager's.
	// Without it the operator issues one.
	// +optional
	Certificate *TargetCertificate `json:"certificate,omitempty"`
}

// TargetService names a port of a Service.
type TargetService struct {
	// name is the Service's name.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="service.name must be a Service's name: lower-case letters, digits and '-', beginning with a letter"
	Name string `json:"name"`
	// namespace is the Service's namespace. Empty: the probe's. Another than the probe's takes an operator that was
	// started with --allow-cross-namespace.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="service.namespace must be a namespace's name: lower-case letters, digits and '-'"
	Namespace string `json:"namespace,omitempty"`
	// port is the Service's port, by number or by name.
	// +optional
	// +kubebuilder:default=443
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? int(self) >= 1 && int(self) <= 65535 : string(self).matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$') && string(self).matches('[a-z]')",message="service.port must be a port number from 1 to 65535, without quotes, or the name of a port"
	Port intstr.IntOrString `json:"port,omitzero"`
}

// CertificateAuthority says where certificates in PEM are.
//
// +kubebuilder:validation:XValidation:rule="has(self.configMap) != has(self.secret)",message="ca must name either a configMap or a secret"
type CertificateAuthority struct {
	// configMap is a key of a ConfigMap in the probe's namespace.
	// +optional
	ConfigMap *KeyReference `json:"configMap,omitempty"`
	// secret is a key of a Secret in the probe's namespace. The operator reads no Secret unless a Role of that
	// namespace lets it: the probe's status says which Role it needs.
	// +optional
	Secret *KeyReference `json:"secret,omitempty"`
}

// KeyReference is one key of a ConfigMap or Secret.
type KeyReference struct {
	// name is the object's name.
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="name must be the name of a ConfigMap or Secret: lower-case letters, digits, '-' and '.'"
	Name string `json:"name"`
	// key is the entry in the object's data.
	// +optional
	// +kubebuilder:default="ca.crt"
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// TargetCertificate names a certificate with its key.
type TargetCertificate struct {
	// secretName is a Secret of type kubernetes.io/tls in the probe's namespace. The operator reads it to know the
	// certificate that it is to meet, if a Role of that namespace lets it: the probe's status says which Role it needs.
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="secretName must be the name of a Secret: lower-case letters, digits, '-' and '.'"
	SecretName string `json:"secretName"`
}

// MTLS is the mutual TLS policy that should hold before the target.
type MTLS struct {
	// mode is the mode of the PeerAuthentication that selects the server's pods. STRICT: only clients with a
	// certificate of the mesh get through. PERMISSIVE: they and all others. DISABLE: the sidecar takes no part in TLS.
	// UNSET: inherited from the namespace, else the mesh, else PERMISSIVE; a PeerAuthentication that sets a mode for
	// the pods themselves, or for their port, refutes it.
	// +optional
	// +kubebuilder:default=UNSET
	Mode MTLSMode `json:"mode,omitempty"`
	// clientMode is the TLS mode of the DestinationRule for the server's host. UNSET: there is none, and auto mTLS
	// decides. DISABLE, ISTIO_MUTUAL and SIMPLE: what the client's sidecar does, whatever the server takes.
	// +optional
	// +kubebuilder:default=UNSET
	ClientMode ClientTLSMode `json:"clientMode,omitempty"`
}

// PathExpectation overrides what one path is expected to see.
type PathExpectation struct {
	// path is the path: sleep, istio-proxy or outsider.
	// +required
	Path PathName `json:"path"`
	// see is an HTTP status code such as 200 or 401; refused, a demanded client certificate; or denied: an AuthorizationPolicy
	// keeps the client out.
	// +required
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? int(self) >= 100 && int(self) <= 599 : string(self).matches('^([1-5][0-9][0-9]|refused|denied)$')",message="see must be an HTTP status code from 100 to 599, refused or denied"
	See intstr.IntOrString `json:"see"`
	// reason says why, for whoever reads the status.
	// +required
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('[^[:space:]]')",message="reason must say why this path is expected to see something else than the policy promises"
	Reason string `json:"reason"`
}

// PathName names a path after the container its request starts from.
//
// +kubebuilder:validation:Enum=sleep;istio-proxy;outsider
type PathName string

const (
	// PathSleep starts in the client pod's container sleep and goes through the client's sidecar.
	PathSleep PathName = "sleep"
	// PathIstioProxy starts in the client pod's container istio-proxy, whose traffic is not captured: it goes around
	// the client's sidecar and carries no certificate of the mesh.
	PathIstioProxy PathName = "istio-proxy"
	// PathOutsider starts in a pod without sidecar.
	PathOutsider PathName = "outsider"
)

// Outcome is what a path's last run came to.
//
// +kubebuilder:validation:Enum=Match;Mismatch;Unknown
type Outcome string

const (
	// OutcomeMatch means that what was observed is what was expected.
	OutcomeMatch Outcome = "Match"
	// OutcomeMismatch means that it is not.
	OutcomeMismatch Outcome = "Mismatch"
	// OutcomeUnknown means that it could not be asked, or that what was seen proves nothing.
	OutcomeUnknown Outcome = "Unknown"
)

// Encryption is how a request left the client's pod, by the counters of the client's own Envoy.
//
// +kubebuilder:validation:Enum=MutualTLS;Plaintext;Unknown
type Encryption string

const (
	// EncryptionMutualTLS means that the client's sidecar wrapped the connection in TLS of its own.
	EncryptionMutualTLS Encryption = "MutualTLS"
	// EncryptionPlaintext means that it passed the client's bytes on as they are.
	EncryptionPlaintext Encryption = "Plaintext"
	// EncryptionUnknown means that the counters could not be read, or do not tell this request from others.
	EncryptionUnknown Encryption = "Unknown"
)

// Question is what a claim answers.
//
// +kubebuilder:validation:Enum=Who;How;What
type Question string

const (
	// QuestionWho asks whether it was this Service's server that the request came to.
	QuestionWho Question = "Who"
	// QuestionHow asks how the request left the client's pod: by mutual TLS, or as it was.
	QuestionHow Question = "How"
	// QuestionWhat asks what stands before every endpoint: whether mutual TLS is demanded, taken, or neither; and, where a
	// request is to get through, whether it was answered.
	QuestionWhat Question = "What"
)

// Answer says whether there is evidence for a claim.
//
// +kubebuilder:validation:Enum=Shown;Contradicted;Unknown
type Answer string

const (
	// AnswerShown means that evidence shows what is claimed.
	AnswerShown Answer = "Shown"
	// AnswerContradicted means that evidence shows something else.
	AnswerContradicted Answer = "Contradicted"
	// AnswerUnknown means that there is no evidence. It never counts as a pass.
	AnswerUnknown Answer = "Unknown"
)

// ClaimStatus is one claim of what is declared, and the evidence for or against it in the latest run.
type ClaimStatus struct {
	// question is what the claim answers: Who, How or What.
	// +required
	Question Question `json:"question"`
	// answer is Shown, Contradicted or Unknown.
	// +required
	Answer Answer `json:"answer"`
	// evidence says by what it is shown or contradicted, or why it is not known.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Evidence string `json:"evidence,omitempty"`
}

// DeliveredStatus is where the client's Envoy is configured to lead requests for the Service: what istiod has delivered to
// it, which stands between what is computed and what is observed.
type DeliveredStatus struct {
	// object is what made the route, such as "VirtualService shop/lead"; empty where Istio names none.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Object string `json:"object,omitempty"`
	// legs are the clusters to which requests are led, at most 8.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	Legs []DeliveredLeg `json:"legs,omitempty"`
	// message says why it is not known, or what of it leads elsewhere.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}

// DeliveredLeg is one cluster to which requests are led.
type DeliveredLeg struct {
	// cluster is its name in Envoy, such as outbound|443||web.shop.svc.cluster.local.
	// +required
	// +kubebuilder:validation:MaxLength=512
	Cluster string `json:"cluster"`
	// percent is its share of the requests.
	// +optional
	Percent int32 `json:"percent,omitempty"`
	// object is the DestinationRule that shaped it; empty where there is none.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Object string `json:"object,omitempty"`
	// endpoints is how many endpoints it has, and mutualTLS to how many of them requests go by mutual TLS.
	// +optional
	Endpoints int32 `json:"endpoints,omitempty"`
	// mutualTLS is to how many of its endpoints requests go by mutual TLS.
	// +optional
	MutualTLS int32 `json:"mutualTLS,omitempty"`
}

// EndpointsStatus sums up the pods behind the Service that a path dials one by one.
type EndpointsStatus struct {
	// total is how many ready endpoints there are.
	// +optional
	Total int32 `json:"total,omitempty"`
	// asked is how many of them have been dialed; in each run no more than 16 are, which take turns.
	// +optional
	Asked int32 `json:"asked,omitempty"`
	// mismatched is how many of them showed something else than expected.
	// +optional
	Mismatched int32 `json:"mismatched,omitempty"`
	// examples are some of those, at most 5.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=5
	Examples []EndpointStatus `json:"examples,omitempty"`
}

// EndpointStatus is what was seen of one endpoint.
type EndpointStatus struct {
	// name is the pod, or the address where no pod is known.
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// address is what was dialed.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Address string `json:"address,omitempty"`
	// observed is what the request met, as in the path's observed.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Observed string `json:"observed,omitempty"`
	// message explains it.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}

// PathStatus is the last known result of one path.
type PathStatus struct {
	// name is the path: sleep, istio-proxy or outsider.
	// +required
	Name PathName `json:"name"`
	// expected is what the policy promises: an HTTP status code, answer (any HTTP answer), refused, denied, or "no answer"
	// where the client's sidecar cannot come to terms with the server.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Expected string `json:"expected,omitempty"`
	// expectedReason repeats the reason from spec.expect, where that decides expected.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	ExpectedReason string `json:"expectedReason,omitempty"`
	// observed is what the request met: an HTTP status code, refused (the peer demanded a client certificate), or a
	// short word for how else it ended.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Observed string `json:"observed,omitempty"`
	// outcome holds observed against expected: Match, Mismatch or Unknown.
	// +optional
	Outcome Outcome `json:"outcome,omitempty"`
	// httpCode is the status code of the HTTP response, where there was one.
	// +optional
	HTTPCode int32 `json:"httpCode,omitempty"`
	// tlsVersion is the negotiated version, such as "TLS 1.3".
	// +optional
	// +kubebuilder:validation:MaxLength=16
	TLSVersion string `json:"tlsVersion,omitempty"`
	// cipherSuite is the negotiated cipher suite by its IANA name.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	CipherSuite string `json:"cipherSuite,omitempty"`
	// peer is who answered the TLS handshake: the SPIFFE ID in the peer's certificate, else "sha256:" and the
	// certificate's fingerprint.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Peer string `json:"peer,omitempty"`
	// clientCertificateRequested says whether the peer sent a CertificateRequest (RFC 8446, section 4.3.2).
	// +optional
	ClientCertificateRequested bool `json:"clientCertificateRequested,omitempty"`
	// alert is the TLS alert that the peer sent, by its name in RFC 8446, section 6.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Alert string `json:"alert,omitempty"`
	// encryption says how the request left the client's pod, by the counters of its Envoy over exactly this request;
	// on the path sleep alone.
	// +optional
	Encryption Encryption `json:"encryption,omitempty"`
	// sentTo is the cluster and the host to which the client's Envoy sent the request, by its own counters; on the path
	// sleep alone.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	SentTo string `json:"sentTo,omitempty"`
	// claims are what is claimed of this path, each with its evidence in the latest run. All must be shown for a Match.
	// +optional
	// +listType=map
	// +listMapKey=question
	// +kubebuilder:validation:MaxItems=3
	Claims []ClaimStatus `json:"claims,omitempty"`
	// endpoints sums up the endpoints that this path dials one by one, beside the Service's own address.
	// +optional
	Endpoints *EndpointsStatus `json:"endpoints,omitempty"`
	// latency is how long the request took inside the agent, from resolving the name to the end of what was read.
	// +optional
	Latency *metav1.Duration `json:"latency,omitempty"`
	// consecutiveFailures is how many of the latest runs in a row were a Mismatch; at most 10 are counted.
	// +optional
	ConsecutiveFailures int32 `json:"consecutiveFailures,omitempty"`
	// lastProbeTime is when the run that this entry shows began. Runs that show the same are written once in a while.
	// +optional
	LastProbeTime *metav1.Time `json:"lastProbeTime,omitempty"`
	// lastTransitionTime is when observed or outcome last changed.
	// +optional
	LastTransitionTime *metav1.Time `json:"lastTransitionTime,omitempty"`
	// message explains the outcome in a sentence.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// CertificateStatus is the server's own certificate as it was last seen.
type CertificateStatus struct {
	// sha256 is its fingerprint.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	SHA256 string `json:"sha256,omitempty"`
	// notAfter is when it ends.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
	// daysLeft is how many whole days are left until then, as of the last write; negative when it has ended.
	// +optional
	DaysLeft *int32 `json:"daysLeft,omitempty"`
}

// PolicyChange is a change of what Istio computes for the target, and what it cost.
type PolicyChange struct {
	// object is what changed, such as "PeerAuthentication shop/default".
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Object string `json:"object,omitempty"`
	// from is what was in effect before: the server's mode and how the client's sidecar connects.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	From string `json:"from,omitempty"`
	// to is what is in effect since.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	To string `json:"to,omitempty"`
	// seenTime is when the operator saw it.
	// +optional
	SeenTime *metav1.Time `json:"seenTime,omitempty"`
	// settledAfter is how long after that the paths first showed what is computed; absent where they did not within 10s.
	// +optional
	SettledAfter *metav1.Duration `json:"settledAfter,omitempty"`
	// probesSent is how many requests were sent on the path sleep until then.
	// +optional
	ProbesSent int32 `json:"probesSent"`
	// probesLost is how many of these got no answer, where the policies before and after both promise one.
	// +optional
	ProbesLost int32 `json:"probesLost"`
}

// AnnotationRequestedAt asks for a run at once when its value changes; status.lastHandledRequest repeats the value.
const AnnotationRequestedAt = "meshprobe.dev/requestedAt"

// HTTPSMeshProbeStatus is what the probe found.
type HTTPSMeshProbeStatus struct {
	// observedGeneration is the generation of the spec that this status speaks of; -1 before the first look.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions: Ready; while there is cause, Reconciling and Stalled; one a path (SleepVerified, IstioProxyVerified,
	// OutsiderVerified), where True means that what was observed is what was expected, False that it is not, and
	// Unknown that it could not be asked; and PolicyInEffect.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// paths is the evidence, path by path.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=8
	Paths []PathStatus `json:"paths,omitempty"`
	// lastProbeTime is when the latest run that is written here began.
	// +optional
	LastProbeTime *metav1.Time `json:"lastProbeTime,omitempty"`
	// delivered is where the client's Envoy is configured to lead requests for the Service.
	// +optional
	Delivered *DeliveredStatus `json:"delivered,omitempty"`
	// certificate is the server's own certificate, as the path that reached it last saw it.
	// +optional
	Certificate *CertificateStatus `json:"certificate,omitempty"`
	// lastPolicyChange is the latest change of what Istio computes for the target.
	// +optional
	LastPolicyChange *PolicyChange `json:"lastPolicyChange,omitempty"`
	// lastHandledRequest is the value of the annotation meshprobe.dev/requestedAt that the latest asked-for run answered.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	LastHandledRequest string `json:"lastHandledRequest,omitempty"`
}

// HTTPSMeshProbe sends real TLS requests to an HTTPS service from inside, around and outside the mesh, and says whether
// what happens is what the mutual TLS policy promises.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=httpsmeshprobes,singular=httpsmeshprobe,shortName=hmp,categories=all
// +kubebuilder:printcolumn:name="Sidecar",type=string,JSONPath=`.spec.target.sidecar`
// +kubebuilder:printcolumn:name="mTLS",type=string,JSONPath=`.spec.mtls.mode`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Sleep",type=string,JSONPath=`.status.paths[?(@.name=="sleep")].observed`
// +kubebuilder:printcolumn:name="Istio-Proxy",type=string,JSONPath=`.status.paths[?(@.name=="istio-proxy")].observed`
// +kubebuilder:printcolumn:name="Outsider",type=string,JSONPath=`.status.paths[?(@.name=="outsider")].observed`
// +kubebuilder:printcolumn:name="Checked",type=date,JSONPath=`.status.lastProbeTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 52",message="metadata.name must be 52 characters or fewer: the objects made for the probe are named after it"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must begin with a letter and hold only lower-case letters, digits and '-': the probe's Service is named after it"
// +kubebuilder:validation:XValidation:rule="!self.metadata.name.startsWith('meshprobe-')",message="metadata.name must not begin with 'meshprobe-': the clients that probes share are named so"
type HTTPSMeshProbe struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec says what to probe, and what must be true of it.
	// +required
	Spec HTTPSMeshProbeSpec `json:"spec"`
	// status is what the probe found.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status HTTPSMeshProbeStatus `json:"status,omitzero"`
}

// HTTPSMeshProbeList is a list of HTTPSMeshProbe.
//
// +kubebuilder:object:root=true
type HTTPSMeshProbeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HTTPSMeshProbe `json:"items"`
}
