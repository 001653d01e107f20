package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	// MTLSUnset inherits the mode of the namespace, else of the mesh, else PERMISSIVE.
	MTLSUnset MTLSMode = "UNSET"
	// MTLSDisable lets the sidecar pass every connection on as it is.
	MTLSDisable MTLSMode = "DISABLE"
	// MTLSPermissive accepts mutual TLS and everything else.
	MTLSPermissive MTLSMode = "PERMISSIVE"
	// MTLSStrict accepts mutual TLS alone.
	MTLSStrict MTLSMode = "STRICT"
)

// HTTPSMeshProbeSpec says what to probe, and what must be true of it.
//
// +kubebuilder:validation:XValidation:rule="self.target.sidecar == 'Enabled' || !(self.mtls.mode in ['STRICT', 'PERMISSIVE'])",fieldPath=".mtls.mode",message="mtls.mode STRICT and PERMISSIVE are enforced by a sidecar, and target.sidecar is Disabled: set target.sidecar to Enabled, or mtls.mode to DISABLE or UNSET"
// +kubebuilder:validation:XValidation:rule="!self.timeout.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') || !self.interval.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') || duration(self.timeout) < duration(self.interval)",fieldPath=".timeout",message="timeout (5s where it is not set) must be shorter than interval, or runs would overlap: lower timeout or raise interval"
type HTTPSMeshProbeSpec struct {
	// target is the HTTPS server that is probed. The operator runs it: an nginx behind a Service on port 443, with a
	// certificate of its own.
	// +required
	Target Target `json:"target"`

	// mtls is the mutual TLS policy that should hold before the target.
	// +optional
	// +kubebuilder:default={}
	MTLS MTLS `json:"mtls,omitzero"`

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

	// failureThreshold is how many consecutive runs must contradict the expectation before a path's condition turns
	// False. One run that agrees turns it True again. From 1 to 10.
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
type Target struct {
	// sidecar says whether an Istio sidecar stands before the server: Enabled or Disabled.
	// +required
	Sidecar Sidecar `json:"sidecar"`
}

// MTLS is the mutual TLS policy that should hold before the target.
type MTLS struct {
	// mode is the mode of the PeerAuthentication that selects the server's pods. STRICT: only clients with a
	// certificate of the mesh get through. PERMISSIVE: they and all others. DISABLE: the sidecar takes no part in TLS.
	// UNSET: inherited from the namespace, else the mesh, else PERMISSIVE.
	// +optional
	// +kubebuilder:default=UNSET
	Mode MTLSMode `json:"mode,omitempty"`
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

// PathNames lists the paths in the order in which the status shows them.
func PathNames() []PathName { return []PathName{PathSleep, PathIstioProxy, PathOutsider} }

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

// PathStatus is the last known result of one path.
type PathStatus struct {
	// name is the path: sleep, istio-proxy or outsider.
	// +required
	Name PathName `json:"name"`
	// expected is what the policy promises: an HTTP status code, or refused.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Expected string `json:"expected,omitempty"`
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
