module github.com/go-vsmmu/vsmmuv3

go 1.25.0

require (
	github.com/klauspost/compress v1.17.4
	github.com/stretchr/testify v1.8.0
	github.com/u-root/u-root v0.12.0
	golang.org/x/sys v0.17.0
	gvisor.dev/gvisor v0.0.0-20240916094835-a174eb65023f
	pgregory.net/rapid v1.1.0
)

require (
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/pierrec/lz4/v4 v4.1.22 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	golang.org/x/time v0.5.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)
