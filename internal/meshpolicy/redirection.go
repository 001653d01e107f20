package meshpolicy

import (
	"fmt"
	"strconv"
	"strings"
)

// Redirection is what leads the connections to a pod into its sidecar. It is set up once, when the pod is made, so the
// arguments of the container that did it count and not what the annotations say today. The zero value stands for a pod of
// which there is nothing but its annotations.
type Redirection struct {
	// Absent says that nothing leads connections there: the pod has no container for it.
	Absent bool
	// Container is the init container for it, and Arguments are its arguments, those of istio-iptables.
	Container string
	Arguments []string
}

const (
	annotationInterceptionMode    = "sidecar.istio.io/interceptionMode"
	annotationIncludeInboundPorts = "traffic.sidecar.istio.io/includeInboundPorts"
	annotationExcludeInboundPorts = "traffic.sidecar.istio.io/excludeInboundPorts"

	interceptionNone = "NONE"
	allPorts         = "*"
)

// flag is one of istio-iptables' (tools/istio-iptables/pkg/cmd/root.go, pkg/constants). The interception mode is none that
// counts here: REDIRECT and TPROXY lead the same ports, and for NONE the injector makes no container at all.
type flag struct{ short, long, annotation string }

var (
	includeFlag = flag{"-b", "--istio-inbound-ports", annotationIncludeInboundPorts}
	excludeFlag = flag{"-d", "--istio-local-exclude-ports", annotationExcludeInboundPorts}
)

// past says what leads connections to a port past the sidecar; "" where they are led there. It follows
// tools/istio-iptables/pkg/capture/run.go (handleInboundPortsInclude): exclusions count only where all ports are included;
// a list of included ports makes them void, and an empty one captures nothing.
func (p Pod) past(port uint32) string {
	included, excluded := p.includedPorts(), p.excludedPorts()
	switch {
	case len(p.Redirection.Arguments) == 0 && p.Annotations[annotationInterceptionMode] == interceptionNone:
		return p.annotation(annotationInterceptionMode)
	case included != allPorts && !lists(included, port):
		return p.naming(includeFlag)
	case included == allPorts && lists(excluded, port):
		return p.naming(excludeFlag)
	default:
		return ""
	}
}

func (p Pod) includedPorts() string {
	if len(p.Redirection.Arguments) > 0 {
		return includeFlag.in(p.Redirection.Arguments)
	}
	if included, ok := p.Annotations[annotationIncludeInboundPorts]; ok {
		return included
	}
	return allPorts
}

func (p Pod) excludedPorts() string {
	if len(p.Redirection.Arguments) > 0 {
		return excludeFlag.in(p.Redirection.Arguments)
	}
	return p.Annotations[annotationExcludeInboundPorts]
}

func (p Pod) naming(f flag) string {
	if len(p.Redirection.Arguments) == 0 {
		return p.annotation(f.annotation)
	}
	return fmt.Sprintf("argument %s (%q) of the pod's init container %s, made when the pod was injected from annotation %s or the mesh's default,",
		f.short, f.in(p.Redirection.Arguments), p.Redirection.Container, f.annotation)
}

func (p Pod) annotation(name string) string {
	return fmt.Sprintf("the pod's annotation %s (%q)", name, p.Annotations[name])
}

// in returns the flag's value among arguments, in any of the ways of github.com/spf13/pflag; "" where it is not given, which
// is istio-iptables' default for both flags. The last one counts.
func (f flag) in(arguments []string) string {
	value := ""
	for i, argument := range arguments {
		attached, isShort := strings.CutPrefix(argument, f.short)
		switch {
		case argument == f.short || argument == f.long:
			if i+1 < len(arguments) {
				value = arguments[i+1]
			}
		case strings.HasPrefix(argument, f.long+"="):
			value = strings.TrimPrefix(argument, f.long+"=")
		case isShort:
			value = strings.TrimPrefix(attached, "=")
		}
	}
	return value
}

func lists(ports string, port uint32) bool {
	for _, listed := range strings.Split(ports, ",") {
		if strings.TrimSpace(listed) == strconv.FormatUint(uint64(port), 10) {
			return true
		}
	}
	return false
}
