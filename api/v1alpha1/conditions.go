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
	// ReasonMTLSNotEnforced (False): a request without a certificate of the mesh got through where it must be refused.
	ReasonMTLSNotEnforced = "MTLSNotEnforced"
	// ReasonRefused (False): the peer demanded a client certificate where the request must get through.
	ReasonRefused = "Refused"
	// ReasonUnexpectedCertificate (False): somebody else than the expected server answered the handshake.
	ReasonUnexpectedCertificate = "UnexpectedCertificate"
	// ReasonUnexpectedStatusCode (False): the server answered with another status code than 200.
	ReasonUnexpectedStatusCode = "UnexpectedStatusCode"
	// ReasonNoAnswer (False): the connection failed on its way where the request must get through.
	ReasonNoAnswer = "NoAnswer"
	// ReasonNoPositiveControl (Unknown): a refusal was seen, but in the same run no request reached the server.
	ReasonNoPositiveControl = "NoPositiveControl"
	// ReasonInconclusive (Unknown): the request failed in a way that proves neither refusal nor acceptance.
	ReasonInconclusive = "Inconclusive"
	// ReasonBelowThreshold (status kept): a mismatch was seen, fewer times in a row than failureThreshold.
	ReasonBelowThreshold = "BelowThreshold"
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
	// ReasonOverridden (False): another PeerAuthentication decides; the message names it.
	ReasonOverridden = "Overridden"
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
	// ReasonApplyFailed (Ready False): the API server refused an object of the probe.
	ReasonApplyFailed = "ApplyFailed"
)
