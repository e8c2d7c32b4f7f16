// Package urootdt converts the nodes of package firmware for github.com/u-root/u-root/pkg/dt, which
// writes flattened device trees.
package urootdt

import (
	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/firmware"
)

// Node converts a node and all below it. The values of properties are shared, not copied.
func Node(n firmware.Node) *dt.Node {
	return &dt.Node{Name: n.Name, Properties: Properties(n.Props), Children: Nodes(n.Children)}
}

// Nodes converts several nodes.
func Nodes(nodes []firmware.Node) []*dt.Node {
	var all []*dt.Node
	for _, n := range nodes {
		all = append(all, Node(n))
	}
	return all
}

// Properties converts several properties.
func Properties(props []firmware.Prop) []dt.Property {
	var all []dt.Property
	for _, p := range props {
		all = append(all, dt.Property{Name: p.Name, Value: p.Value})
	}
	return all
}
