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

// Reasons of the path conditions. docs/verdicts.md says what to do about each.
const (
	// ReasonAnswered (True): the server answered as expected.
	ReasonAnswered = "Answered"
	// ReasonRefusedByMesh (True): the server's sidecar demanded a client certificate and refused, as expected.
	ReasonRefusedByMesh = "RefusedByMesh"
	// ReasonFailedAsDeclared (True): the client's sidecar and the server do not come to terms, as the declared modes promise.
	ReasonFailedAsDeclared = "FailedAsDeclared"
	// ReasonDeniedAsDeclared (True): an AuthorizationPolicy keeps the client out, and spec.expect says that it should.
	ReasonDeniedAsDeclared = "DeniedAsDeclared"
	// ReasonMTLSNotEnforced (False): a request without a certificate of the mesh got through where it must be refused.
	ReasonMTLSNotEnforced = "MTLSNotEnforced"
	// ReasonUntrustedCertificateAccepted (False): the server's sidecar takes a certificate that the mesh did not issue.
	ReasonUntrustedCertificateAccepted = "UntrustedCertificateAccepted"
	// ReasonMutualTLSAccepted (False): a sidecar takes mutual TLS before a server of which it is declared that none does.
	ReasonMutualTLSAccepted = "MutualTLSAccepted"
	// ReasonMutualTLSNotAccepted (False): no sidecar takes mutual TLS before a server where one should.
	ReasonMutualTLSNotAccepted = "MutualTLSNotAccepted"
	// ReasonPlaintextInMesh (False): the client's sidecar sends requests without mutual TLS where they should have it.
	ReasonPlaintextInMesh = "PlaintextInMesh"
	// ReasonUnexpectedMutualTLS (False): the client's sidecar sends requests by mutual TLS where they should go as they are.
	ReasonUnexpectedMutualTLS = "UnexpectedMutualTLS"
	// ReasonLedElsewhere (False): the client's sidecar leads requests for the Service to another one.
	ReasonLedElsewhere = "LedElsewhere"
	// ReasonRefused (False): the server's sidecar demanded a client certificate where the request must get through.
	ReasonRefused = "Refused"
	// ReasonApplicationRefused (False): the application itself demanded a client certificate.
	ReasonApplicationRefused = "ApplicationRefused"
	// ReasonAuthorizationDenied (False): an AuthorizationPolicy keeps the client out.
	ReasonAuthorizationDenied = "AuthorizationDenied"
	// ReasonUnexpectedCertificate (False): somebody else than the expected server answered the handshake.
	ReasonUnexpectedCertificate = "UnexpectedCertificate"
	// ReasonNotTLS (False): what answered speaks no TLS.
	ReasonNotTLS = "NotTLS"
	// ReasonUnexpectedStatusCode (False): the server answered with another status code than the expected one.
	ReasonUnexpectedStatusCode = "UnexpectedStatusCode"
	// ReasonUnexpectedAnswer (False): the request got through, or was refused, where something else was declared.
	ReasonUnexpectedAnswer = "UnexpectedAnswer"
	// ReasonNoConnection (False): no TCP connection came about.
	ReasonNoConnection = "NoConnection"
	// ReasonTimedOut (False): the connection stood, and no answer came in time.
	ReasonTimedOut = "TimedOut"
	// ReasonConnectionBroken (False): the connection was closed or reset before an answer.
	ReasonConnectionBroken = "ConnectionBroken"
	// ReasonNotAttributed (Unknown): the request was answered, and the client's Envoy does not tell where it sent it or how.
	ReasonNotAttributed = "NotAttributed"
	// ReasonNoPositiveControl (Unknown): the request failed as it should, but nothing shows that the server is alive.
	ReasonNoPositiveControl = "NoPositiveControl"
	// ReasonInconclusive (Unknown): the request failed in a way that proves neither refusal nor acceptance.
	ReasonInconclusive = "Inconclusive"
	// ReasonBelowThreshold (status kept): a mismatch was seen, and not for long enough or not often enough.
	ReasonBelowThreshold = "BelowThreshold"
	// ReasonEndpointsNotAsked (Unknown): not every endpoint has been asked yet.
	ReasonEndpointsNotAsked = "EndpointsNotAsked"
	// ReasonNotProbed (Unknown): the request could not be sent, or no run has ended for too long; the message says why.
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
	// ReasonReconcileFailed (Ready Unknown): a step of the operator's fails at every attempt; the message says which.
	ReasonReconcileFailed = "ReconcileFailed"
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
