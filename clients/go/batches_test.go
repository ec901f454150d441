package atlasqueue

import (
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

func TestABatchKeepsItsBounds(t *testing.T) {
	half, whole := NewJob{Payload: make([]byte, batchBytes/2)}, NewJob{Payload: make([]byte, batchBytes+1)}
	headers := NewJob{Headers: map[string]string{"k": string(make([]byte, batchBytes/2))}}
	for name, each := range map[string]struct {
		jobs []NewJob
		want int
	}{
		"none": {nil, 0}, "all": {[]NewJob{{}, {}, {}}, 3}, "too many bytes": {[]NewJob{half, half}, 1},
		"too many bytes of headers": {[]NewJob{headers, headers}, 1}, "one too large": {[]NewJob{whole, half}, 1},
	} {
		if got := nextBatch(each.jobs); got != each.want {
			t.Errorf("%s: %d", name, got)
		}
	}
	many := make([]NewJob, batchItems+1)
	if nextBatch(many) != batchItems || nextBatch(many[1:]) != batchItems {
		t.Errorf("%d, %d", nextBatch(many), nextBatch(many[1:]))
	}
}

// The job in which every field takes the most there is.
func TestNoJobTakesMoreThanItsBound(t *testing.T) {
	long := strings.Repeat("x", 1<<21)
	for name, job := range map[string]NewJob{
		"empty":   {},
		"headers": {Headers: map[string]string{"": "", "k": long, long: ""}},
		"the rest": {
			Queue: long, Kind: long, JobID: long, Payload: []byte(long), Priority: math.MinInt,
			RunAt: time.Date(-200_000_000_000, 1, 1, 0, 0, 0, 999_999_999, time.UTC), Deadline: math.MinInt64,
			RetryPolicy: &RetryPolicy{new(int32(math.MinInt32)), new(time.Duration(math.MinInt64)), new(-1.0), new(time.Duration(math.MinInt64))},
		},
	} {
		message := newJobToProto(job)
		job.JobID = message.GetJobId()
		if size, bound := proto.Size(&pb.EnqueueBatchRequest{Jobs: []*pb.NewJob{message}}), bytesMaxOf(&job); size > bound {
			t.Errorf("%s: %d bytes, not at most %d", name, size, bound)
		}
	}
}
