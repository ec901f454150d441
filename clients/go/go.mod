module github.com/atlasqueue/atlasqueue/clients/go

go 1.23
