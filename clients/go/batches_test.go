package atlasqueue

import (
	"testing"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

func TestABatchKeepsItsBounds(t *testing.T) {
	half, whole := &pb.NewJob{Payload: make([]byte, batchBytes/2)}, &pb.NewJob{Payload: make([]byte, batchBytes+1)}
	for name, each := range map[string]struct {
		jobs []*pb.NewJob
		want int
	}{
		"none": {nil, 0}, "all": {[]*pb.NewJob{{}, {}, {}}, 3}, "too many bytes": {[]*pb.NewJob{half, half}, 1},
		"one too large": {[]*pb.NewJob{whole, half}, 1},
	} {
		if got := nextBatch(each.jobs); got != each.want {
			t.Errorf("%s: %d", name, got)
		}
	}
	many := make([]*pb.NewJob, batchItems+1)
	for i := range many {
		many[i] = &pb.NewJob{}
	}
	if nextBatch(many) != batchItems || nextBatch(many[1:]) != batchItems {
		t.Errorf("%d, %d", nextBatch(many), nextBatch(many[1:]))
	}
}
