module github.com/shearpin/shearpin/test/interop

go 1.26.0

require (
	github.com/couchbase/gocbcore/v10 v10.9.3
	github.com/shearpin/shearpin v0.0.0
	github.com/stretchr/testify v1.12.1
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect

replace github.com/shearpin/shearpin => ../..
