package controllers

import (
	"testing"

	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// A name that begins with another's, or stands in a sentence about another, is not the other.
func TestTheChangedObjectIsTold(t *testing.T) {
	shop := meshpolicy.Object{Kind: "PeerAuthentication", Namespace: "shop", Name: "shop"}
	shopper := meshpolicy.Object{Kind: "PeerAuthentication", Namespace: "shop", Name: "shop-2"}
	rule := meshpolicy.Object{Kind: "DestinationRule", Namespace: "shop", Name: "shop"}
	type objects = map[meshpolicy.Object]string
	for name, c := range map[string]struct {
		before, now remembered
		want        string
	}{
		"nothing":               {remembered{objects: objects{shop: "a"}}, remembered{objects: objects{shop: "a"}}, ""},
		"the only one":          {remembered{objects: objects{shop: "a", rule: "a"}}, remembered{objects: objects{shop: "b", rule: "a"}}, shop.String()},
		"made":                  {remembered{objects: objects{}}, remembered{objects: objects{shop: "a"}}, shop.String()},
		"gone":                  {remembered{objects: objects{shop: "a"}}, remembered{objects: objects{}}, shop.String()},
		"the one that decides":  {remembered{objects: objects{}}, remembered{objects: objects{rule: "a", shop: "a"}, deciders: []meshpolicy.Object{shop}}, shop.String()},
		"the one that decided":  {remembered{objects: objects{rule: "a", shop: "a"}, deciders: []meshpolicy.Object{shop}}, remembered{objects: objects{}}, shop.String()},
		"neither decides":       {remembered{objects: objects{}}, remembered{objects: objects{rule: "a", shop: "a"}, deciders: []meshpolicy.Object{shopper}}, rule.String()},
		"the mesh config first": {remembered{mesh: "a"}, remembered{mesh: "b", objects: objects{shop: "a"}, deciders: []meshpolicy.Object{shop}}, "the mesh config"},
	} {
		if got := c.before.changedTo(c.now); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
