package controllers

// The operator's rights. config/rbac is generated from these lines; every one of them has a step that needs it.
//
// Probes are read, and their status is written:
// +kubebuilder:rbac:groups=meshprobe.dev,resources=httpsmeshprobes,verbs=get;list;watch
// +kubebuilder:rbac:groups=meshprobe.dev,resources=httpsmeshprobes/status,verbs=patch
//
// Servers and clients are applied, and clients that no probe uses any more are deleted:
// +kubebuilder:rbac:groups="",resources=configmaps;services;serviceaccounts,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch;delete
//
// Certificates' Secrets are created and deleted, never read:
// +kubebuilder:rbac:groups="",resources=secrets,verbs=create;delete
//
// Policies are read to compute what is in effect, and the servers' own are applied:
// +kubebuilder:rbac:groups=security.istio.io,resources=peerauthentications,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.istio.io,resources=destinationrules,verbs=get;list;watch;create;patch;delete
//
// AuthorizationPolicies are listed when a client is kept out of a server, to name the one that does; they are not watched:
// +kubebuilder:rbac:groups=security.istio.io,resources=authorizationpolicies,verbs=list
//
// What stands behind a Service is read, and whether its namespace is on its way out or has lost its injection label:
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
//
// Pods are watched, and those that missed their sidecar are replaced; the agent runs in the clients' containers. The
// WebSocket that carries it is opened with GET, and the API server asks for create on top:
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups="",resources=pods/exec,verbs=get;create
//
// Whoever asks for the metrics is asked of the API server: who is it, and may it get /metrics? Without these two rights
// nobody gets them, and --metrics-bind-address=0 turns them off:
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create
//
// Transitions are told in events:
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
//
// One of several replicas leads, and says so in an event of the older kind:
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;create;update,namespace=httpsmeshprobe-system
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch,namespace=httpsmeshprobe-system
