package atlasqueuetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/jobid"
)

// batched is a job of a batch: where it stands in the request, where its id does, and who is told why it is refused.
type batched struct {
	body     *pb.NewJob
	path, id string
	refuse   func(*spb.Status)
}

func (s jobService) EnqueueBatch(_ context.Context, request *pb.EnqueueBatchRequest) (*pb.EnqueueBatchResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	response := &pb.EnqueueBatchResponse{}
	var all []batched
	for i, body := range request.GetJobs() {
		setJobID(body)
		result := &pb.EnqueueResult{Queue: body.GetQueue(), JobId: body.GetJobId()}
		path := fmt.Sprintf("jobs[%d]", i)
		all = append(all, batched{body, path, path + ".job_id", func(why *spb.Status) { result.Error = why }})
		response.Results = append(response.Results, result)
	}
	for i, group := range request.GetUniform() {
		jobs, result := uniform(group, fmt.Sprintf("uniform[%d]", i))
		all = append(all, jobs...)
		response.Uniform = append(response.Uniform, result)
	}
	// The order in which the server stores what arrives at once; of the same id the first one counts.
	slices.SortStableFunc(all, func(a, b batched) int { return cmp.Compare(a.body.GetJobId(), b.body.GetJobId()) })
	for _, each := range all {
		if err := s.store(each.body, each.path, each.id); err != nil {
			each.refuse(status.Convert(err).Proto())
		}
	}
	for _, result := range response.GetUniform() {
		slices.SortFunc(result.Refused, func(a, b *pb.UniformRefusal) int { return cmp.Compare(a.GetIndex(), b.GetIndex()) })
	}
	s.dispatch()
	return response, nil
}

// uniform gives the jobs of a group, none when what they have in common is refused, and the result that tells their
// refusals.
func uniform(group *pb.UniformJobs, path string) ([]batched, *pb.UniformResult) {
	result := &pb.UniformResult{}
	if err := checkGroup(group, path); err != nil {
		result.Error = status.Convert(err).Proto()
		return nil, result
	}
	var jobs []batched
	for i, payload := range group.GetPayloads() {
		body := proto.CloneOf(group.GetShared())
		body.JobId, body.Payload = idAt(group.GetJobIds(), i), payload
		jobs = append(jobs, batched{body, path + ".shared", fmt.Sprintf("%s.job_ids[%d]", path, i), func(why *spb.Status) {
			result.Refused = append(result.Refused, &pb.UniformRefusal{Index: int32(i), Error: why})
		}})
	}
	return jobs, result
}

func checkGroup(group *pb.UniformJobs, path string) error {
	shared, ids, payloads := group.GetShared(), len(group.GetJobIds()), len(group.GetPayloads())
	switch {
	case shared.GetJobId() != "":
		return invalid(path+".shared.job_id", "must be unset")
	case len(shared.GetPayload()) > 0:
		return invalid(path+".shared.payload", "must be unset")
	case ids != jobid.Bytes*payloads:
		return invalid(path+".job_ids", fmt.Sprintf("must be 16 bytes for each of %d payloads, is %d", payloads, ids))
	}
	return checkNames(shared, path+".shared")
}

// idAt gives the text of an id in a column.
func idAt(column []byte, at int) string {
	return jobid.Text([jobid.Bytes]byte(column[jobid.Bytes*at:]))
}
