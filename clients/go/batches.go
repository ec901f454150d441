package atlasqueue

import (
	"google.golang.org/protobuf/proto"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// Of 4 MiB and 10 000; smaller batches share the server's work better than the largest would.
const (
	batchBytes = 3 << 20
	batchItems = 2000
)

// nextBatch cuts the first run of jobs that one message carries: at most batchItems and, unless it is a single
// job, batchBytes.
func nextBatch(jobs []*pb.NewJob) int {
	size := 0
	for i, job := range jobs {
		size += proto.Size(job) + 8
		if i == batchItems || (i > 0 && size > batchBytes) {
			return i
		}
	}
	return len(jobs)
}
