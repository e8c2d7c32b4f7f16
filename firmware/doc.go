// Package firmware tells a guest about the device: the device-tree nodes and properties that the drivers of the SMMU and of
// the devices behind it look for. They are values of u-root's pkg/dt, for the embedder to put into its own tree.
package firmware
