package atlasqueuetest

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/jobid"
)

const (
	// So many jobs of a sort come as columns to who reads them.
	uniformMin = 16
	// Within the 4 MiB of a message.
	uniformBytesMax = 2 << 20
	outcomesMax     = 10_000
)

// leasedEvents brings leased jobs in their order: each in an event of its own, but many of a sort in columns.
func leasedEvents(jobs []*pb.LeasedJob, uniform bool) []*pb.LeaseResponse {
	sorts, sortsOf := map[string][]*pb.LeasedJob{}, make([]string, len(jobs))
	if uniform {
		for i, each := range jobs {
			sortsOf[i] = sortOf(each)
			sorts[sortsOf[i]] = append(sorts[sortsOf[i]], each)
		}
	}
	var events []*pb.LeaseResponse
	for i, each := range jobs {
		alike := sorts[sortsOf[i]]
		switch {
		case len(alike) < uniformMin:
			events = append(events, leasedEvent(&pb.LeasedJobs{Jobs: []*pb.LeasedJob{each}}))
		case alike[0] == each:
			for _, columns := range uniformLeases(alike) {
				events = append(events, leasedEvent(&pb.LeasedJobs{Uniform: []*pb.UniformLeases{columns}}))
			}
		}
	}
	return events
}

func leasedEvent(jobs *pb.LeasedJobs) *pb.LeaseResponse {
	return &pb.LeaseResponse{Event: &pb.LeaseResponse_LeasedJobs{LeasedJobs: jobs}}
}

// sharedOf is what a job has in common with others of its sort.
func sharedOf(leased *pb.LeasedJob) *pb.LeasedJob {
	shared := proto.CloneOf(leased)
	shared.JobId, shared.Fence, shared.Payload = "", 0, nil
	return shared
}

func sortOf(leased *pb.LeasedJob) string {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(sharedOf(leased))
	if err != nil {
		// Nor could it be sent.
		panic(err)
	}
	return string(encoded)
}

// uniformLeases are the jobs of a sort, as many in each as a message carries.
func uniformLeases(alike []*pb.LeasedJob) []*pb.UniformLeases {
	var made []*pb.UniformLeases
	size := uniformBytesMax
	for _, each := range alike {
		if size += len(each.GetPayload()); size >= uniformBytesMax {
			made, size = append(made, &pb.UniformLeases{Shared: sharedOf(each)}), len(each.GetPayload())
		}
		columns, id := made[len(made)-1], jobid.Parse(each.GetJobId())
		columns.JobIds = append(columns.JobIds, id[:]...)
		columns.Fences = append(columns.Fences, each.GetFence())
		columns.Payloads = append(columns.Payloads, each.GetPayload())
	}
	return made
}

// checkReport refuses what cannot be read, or names a lease twice.
func checkReport(request *pb.ReportRequest) error {
	count, seen := len(request.GetOutcomes()), map[int64]bool{}
	for _, outcome := range request.GetOutcomes() {
		seen[outcome.GetFence()] = true
	}
	for i, column := range request.GetCompleted() {
		if err := checkCompleted(column, fmt.Sprintf("completed[%d]", i)); err != nil {
			return err
		}
		count += len(column.GetFences())
		for _, fence := range column.GetFences() {
			seen[fence] = true
		}
	}
	switch {
	case count < 1 || count > outcomesMax:
		return invalid("outcomes and completed", fmt.Sprintf("must hold 1 to %d items", outcomesMax))
	case len(seen) < count:
		return invalid("outcomes and completed", "must name each lease once")
	}
	return nil
}

func checkCompleted(column *pb.CompletedJobs, path string) error {
	ids, fences := len(column.GetJobIds()), len(column.GetFences())
	switch {
	case !nameForm.MatchString(column.GetQueue()):
		return invalid(path+".queue", "must match "+nameForm.String())
	case fences == 0:
		return invalid(path+".fences", "must hold at least 1 item")
	case slices.Min(column.GetFences()) < 1:
		return invalid(path+".fences", "must be 1 or more each")
	case ids != jobid.Bytes*fences:
		return invalid(path+".job_ids", fmt.Sprintf("must be %d bytes for each of %d fences, is %d", jobid.Bytes, fences, ids))
	}
	return nil
}

// complete tells what became of jobs that have succeeded without a result. The mutex is held.
func (s *Server) complete(column *pb.CompletedJobs) *pb.CompletedResult {
	result := &pb.CompletedResult{}
	for i, fence := range column.GetFences() {
		outcome := &pb.JobOutcome{
			Queue: column.GetQueue(), JobId: idAt(column.GetJobIds(), i), Fence: fence,
			Outcome: &pb.JobOutcome_Complete{Complete: &pb.Complete{}},
		}
		if status, state := s.apply(outcome); status != pb.ReportStatus_REPORT_STATUS_APPLIED {
			other := &pb.ReportResult{JobId: outcome.GetJobId(), Fence: fence, Status: status, State: state}
			result.Others = append(result.Others, other)
		}
	}
	return result
}
