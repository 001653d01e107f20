package v1alpha1

// Condition types of an HTTPSMeshProbe. Reconciling and Stalled are abnormal-true: they are present only while they are
// True (kstatus, sigs.k8s.io/cli-utils).
const (
	// ConditionReady is True while every path is verified and the declared policy is the one in effect.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the probe is on its way to a verdict.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True while no verdict can come before somebody changes something.
	ConditionStalled = "Stalled"
	// ConditionSleepVerified judges the path sleep.
	ConditionSleepVerified = "SleepVerified"
	// ConditionIstioProxyVerified judges the path istio-proxy.
	ConditionIstioProxyVerified = "IstioProxyVerified"
	// ConditionOutsiderVerified judges the path outsider.
	ConditionOutsiderVerified = "OutsiderVerified"
	// ConditionPolicyInEffect is True while the mode that Istio computes for the server is the declared one.
	ConditionPolicyInEffect = "PolicyInEffect"
)

// PathCondition is the condition type that judges a path.
func PathCondition(name PathName) string {
	switch name {
	case PathSleep:
		return ConditionSleepVerified
	case PathIstioProxy:
		return ConditionIstioProxyVerified
	default:
		return ConditionOutsiderVerified
	}
}

// Reasons of the path conditions. docs/verdicts.md says what to do about each.
const (
	// ReasonAnswered (True): the server answered 200 with its own certificate, as expected.
	ReasonAnswered = "Answered"
	// ReasonRefusedByMesh (True): the server's sidecar demanded a client certificate and refused, as expected.
	ReasonRefusedByMesh = "RefusedByMesh"
	// ReasonFailedAsDeclared (True): the client's sidecar and the server do not come to terms, as the declared modes promise.
	ReasonFailedAsDeclared = "FailedAsDeclared"
	// ReasonMTLSNotEnforced (False): a request without a certificate of the mesh got through where it must be refused.
	ReasonMTLSNotEnforced = "MTLSNotEnforced"
	// ReasonRefused (False): the peer demanded a client certificate where the request must get through.
	ReasonRefused = "Refused"
	// ReasonUnexpectedCertificate (False): somebody else than the expected server answered the handshake.
	ReasonUnexpectedCertificate = "UnexpectedCertificate"
	// ReasonPlaintextInMesh (False): the request got through, but the client's sidecar sent it without mutual TLS where
	// both sides have sidecars that are to use it.
	ReasonPlaintextInMesh = "PlaintextInMesh"
	// ReasonNotTLS (False): what answered speaks no TLS.
	ReasonNotTLS = "NotTLS"
	// ReasonUnexpectedStatusCode (False): the server answered with another status code than the expected one.
	ReasonUnexpectedStatusCode = "UnexpectedStatusCode"
	// ReasonUnexpectedAnswer (False): the request got through, or was refused, where the declared modes promise that the
	// client's sidecar and the server do not come to terms.
	ReasonUnexpectedAnswer = "UnexpectedAnswer"
	// ReasonNoAnswer (False): the connection failed on its way where the request must get through.
	ReasonNoAnswer = "NoAnswer"
	// ReasonNoPositiveControl (Unknown): a refusal was seen, but in the same run no request reached the server.
	ReasonNoPositiveControl = "NoPositiveControl"
	// ReasonInconclusive (Unknown): the request failed in a way that proves neither refusal nor acceptance.
	ReasonInconclusive = "Inconclusive"
	// ReasonBelowThreshold (status kept): a mismatch was seen, fewer times in a row than failureThreshold; or a connection
	// failed just after pods or policies had changed, and has not failed for long.
	ReasonBelowThreshold = "BelowThreshold"
	// ReasonEndpointsNotAsked (Unknown): not every endpoint has been dialed yet.
	ReasonEndpointsNotAsked = "EndpointsNotAsked"
	// ReasonNotProbed (Unknown): the request could not be sent; the message says why.
	ReasonNotProbed = "NotProbed"
	// ReasonExecForbidden (Unknown, and Ready False): the API server does not let the operator exec into the client.
	ReasonExecForbidden = "ExecForbidden"
)

// Reasons of PolicyInEffect.
const (
	// ReasonInEffect (True): the effective mode is the declared one.
	ReasonInEffect = "InEffect"
	// ReasonInherited (True): mtls.mode is UNSET and the mode comes from the namespace, the mesh or the default.
	ReasonInherited = "Inherited"
	// ReasonNoSidecar (True): there is no sidecar before the server, so no PeerAuthentication applies.
	ReasonNoSidecar = "NoSidecar"
	// ReasonOverridden (False): another PeerAuthentication or DestinationRule decides; the message names it.
	ReasonOverridden = "Overridden"
	// ReasonMixed (False): the pods behind the Service are not all under the same policy.
	ReasonMixed = "Mixed"
	// ReasonSidecarMissing (False): a pod behind the Service has no sidecar, and target.sidecar is Enabled.
	ReasonSidecarMissing = "SidecarMissing"
	// ReasonSidecarPresent (False): a pod behind the Service has a sidecar, and target.sidecar is Disabled.
	ReasonSidecarPresent = "SidecarPresent"
	// ReasonNotCaptured (False): connections to the port go around the pod's sidecar.
	ReasonNotCaptured = "NotCaptured"
	// ReasonNotEnforced (False): Istio computes the declared mode, and what the paths saw contradicts it.
	ReasonNotEnforced = "NotEnforced"
	// ReasonAmbientNotJudged (Unknown): a pod behind the Service is in ambient mode, which is not judged yet.
	ReasonAmbientNotJudged = "AmbientNotJudged"
)

// Reasons of Ready, Reconciling and Stalled.
const (
	// ReasonVerified (Ready True): every path met its expectation.
	ReasonVerified = "Verified"
	// ReasonRefuted (Ready False): at least one path, or the policy, contradicts what is declared.
	ReasonRefuted = "Refuted"
	// ReasonUndetermined (Ready Unknown): at least one path could not be judged, and none is refuted.
	ReasonUndetermined = "Undetermined"
	// ReasonProgressing (Reconciling): pods are starting, or the first run is under way.
	ReasonProgressing = "Progressing"
	// ReasonSuspended (Ready Unknown): spec.suspend is true.
	ReasonSuspended = "Suspended"
	// ReasonMeshUnreadable (Stalled): the operator may not read the mesh config or the root namespace's policies.
	ReasonMeshUnreadable = "MeshUnreadable"
	// ReasonIstioNotInstalled (Stalled): the API server does not know PeerAuthentication.
	ReasonIstioNotInstalled = "IstioNotInstalled"
	// ReasonSidecarNotInjected (Ready False): a pod that needs a sidecar was created without one.
	ReasonSidecarNotInjected = "SidecarNotInjected"
	// ReasonSidecarNotWanted (Ready False): a pod that must have no sidecar has one.
	ReasonSidecarNotWanted = "SidecarNotWanted"
	// ReasonImagePullFailed (Ready False): an image cannot be pulled.
	ReasonImagePullFailed = "ImagePullFailed"
	// ReasonPodsNotCreated (Ready False): the API server refuses the pods (quota, admission, pod security).
	ReasonPodsNotCreated = "PodsNotCreated"
	// ReasonPodsFailing (Ready False): a container keeps crashing or its pod cannot be scheduled.
	ReasonPodsFailing = "PodsFailing"
	// ReasonNameTaken (Stalled): an object with a name that the probe needs exists and is not the operator's.
	ReasonNameTaken = "NameTaken"
	// ReasonServiceNotFound (Stalled): the Service in target.service does not exist.
	ReasonServiceNotFound = "ServiceNotFound"
	// ReasonServiceNotProbeable (Stalled): the Service cannot be probed truthfully: an ExternalName, or one without a
	// cluster IP where one is needed.
	ReasonServiceNotProbeable = "ServiceNotProbeable"
	// ReasonPortNotFound (Stalled): the Service has no such port.
	ReasonPortNotFound = "PortNotFound"
	// ReasonPortProtocol (Stalled): Istio takes the port for another protocol than TLS, by its name or appProtocol.
	ReasonPortProtocol = "PortProtocol"
	// ReasonNoEndpoints (Ready False): no endpoint of the Service is ready.
	ReasonNoEndpoints = "NoEndpoints"
	// ReasonNamespaceTerminating (Stalled): the target's namespace is being deleted.
	ReasonNamespaceTerminating = "NamespaceTerminating"
	// ReasonCrossNamespaceForbidden (Stalled): the target is in another namespace, and the operator was started without
	// --allow-cross-namespace.
	ReasonCrossNamespaceForbidden = "CrossNamespaceForbidden"
	// ReasonCertificateInvalid (Stalled): target.certificate is missing, does not match its key, or has ended.
	ReasonCertificateInvalid = "CertificateInvalid"
	// ReasonCAInvalid (Stalled): target.ca is missing or holds no certificate.
	ReasonCAInvalid = "CAInvalid"
	// ReasonSecretForbidden (Stalled): the operator may not read a Secret that the probe names.
	ReasonSecretForbidden = "SecretForbidden"
	// ReasonApplyFailed (Ready False): the API server refused an object of the probe.
	ReasonApplyFailed = "ApplyFailed"
)
