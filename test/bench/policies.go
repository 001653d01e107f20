package main

import (
	"fmt"
	"slices"
	"time"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

const (
	namespaces          = 20
	servicesOfNamespace = 50
	policyRounds        = 50
)

// town is a namespace with its Services and policies.
type town struct {
	peerAuthentications []meshpolicy.PeerAuthentication
	destinationRules    []meshpolicy.DestinationRule
	services            []meshpolicy.Service
}

// timePolicies prints what it costs to compute what Istio does before every pod of 1,000 Services and in a client's
// sidecar on the way there. As in the operator, the policies of a Service's namespace and of the mesh are looked at.
func timePolicies() error {
	var rows []row
	for _, pods := range []int{1, 3} {
		each := "1 pod each"
		if pods > 1 {
			each = fmt.Sprintf("%d pods each", pods)
		}
		towns := make([]town, namespaces)
		for i := range towns {
			towns[i] = newTown(fmt.Sprintf("town-%02d", i), pods)
		}
		all := row{name: fmt.Sprintf("%d Services, %s", namespaces*servicesOfNamespace, each)}
		for range policyRounds {
			computed := 0
			begun := time.Now()
			for _, t := range towns {
				computed += t.compute()
			}
			all.times = append(all.times, time.Since(begun))
			if want := namespaces * servicesOfNamespace * pods; computed != want {
				return fmt.Errorf("of %d policies %d are as they should be", want, computed)
			}
		}
		slices.Sort(all.times)
		rows = append(rows, all)
	}
	printTable("Computing policies, among 27 PeerAuthentications and 12 DestinationRules", rows, rows[0].name)
	return nil
}

// newTown is a namespace with a policy and a rule for all its Services, policies for half of them, rules for a fifth, and the mesh's.
func newTown(name string, pods int) town {
	created := time.Unix(1_700_000_000, 0)
	t := town{
		peerAuthentications: []meshpolicy.PeerAuthentication{
			{Namespace: "istio-system", Name: "default", Created: created, Mode: api.MTLSPermissive},
			{Namespace: name, Name: "default", Created: created, Mode: api.MTLSStrict},
		},
		destinationRules: []meshpolicy.DestinationRule{
			{Namespace: "istio-system", Name: "default", Created: created, Host: "*.local", HasTrafficPolicy: true},
			{Namespace: name, Name: "default", Created: created, Host: "*." + name + ".svc.cluster.local", HasTrafficPolicy: true},
		},
	}
	for i := range servicesOfNamespace {
		service := meshpolicy.Service{Namespace: name, Name: fmt.Sprintf("service-%02d", i), Port: 443, TargetPort: 8443}
		for j := range pods {
			service.Endpoints = append(service.Endpoints, meshpolicy.Pod{
				Namespace: name, Name: fmt.Sprintf("%s-%d", service.Name, j), Sidecar: true,
				Labels: map[string]string{"app": service.Name, "security.istio.io/tlsMode": "istio", "version": "v1"},
			})
		}
		t.services = append(t.services, service)
		if i%2 == 0 {
			t.peerAuthentications = append(t.peerAuthentications, meshpolicy.PeerAuthentication{
				Namespace: name, Name: service.Name, Created: created.Add(time.Duration(i) * time.Hour),
				Selector: map[string]string{"app": service.Name}, Mode: api.MTLSPermissive,
				PortModes: map[uint32]api.MTLSMode{8443: api.MTLSStrict},
			})
		}
		if i%5 == 0 {
			t.destinationRules = append(t.destinationRules, meshpolicy.DestinationRule{
				Namespace: name, Name: service.Name, Created: created.Add(time.Duration(i) * time.Hour), Host: service.Name,
				HasTrafficPolicy: true, TLS: &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSIstioMutual},
			})
		}
	}
	return t
}

// compute returns how many pods came to a policy.
func (t town) compute() int {
	mesh := meshpolicy.Mesh{AutoMTLS: true}
	computed := 0
	for _, service := range t.services {
		client := meshpolicy.Client{Namespace: service.Namespace, Labels: map[string]string{"app": "meshprobe-sleep"}, Sidecar: true}
		for _, pod := range service.Endpoints {
			before := meshpolicy.ForServer(mesh, t.peerAuthentications, pod, service.TargetPort)
			way := meshpolicy.ForClient(mesh, t.destinationRules, t.peerAuthentications, client, service, pod)
			if before.Enforced() == api.MTLSStrict && way.Sends == meshpolicy.MutualTLS {
				computed++
			}
		}
	}
	return computed
}
