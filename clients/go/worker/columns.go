package worker

import (
	"bytes"
	"cmp"
	"context"
	"maps"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/jobid"
)

// jobsOf gives the jobs of an event, whichever form they came in; whether that is all of them.
func jobsOf(base context.Context, leased *pb.LeasedJobs) (jobs []*Job, whole bool) {
	count := len(leased.GetJobs())
	for _, uniform := range leased.GetUniform() {
		count += len(uniform.GetFences())
	}
	jobs = make([]*Job, 0, count)
	for _, each := range leased.GetJobs() {
		jobs = append(jobs, newJob(base, each))
	}
	for _, uniform := range leased.GetUniform() {
		jobs = appendUniform(jobs, base, uniform)
	}
	return jobs, len(jobs) == count
}

// appendUniform appends the jobs of a sort. Each has its own headers and checkpoint: what a handler does to them no
// other may see.
func appendUniform(jobs []*Job, base context.Context, uniform *pb.UniformLeases) []*Job {
	shared, ids, payloads := uniform.GetShared(), uniform.GetJobIds(), uniform.GetPayloads()
	// Of columns that are not of one length no row is sure to be of one job; what is not held goes back.
	if len(ids) != jobid.Bytes*len(uniform.GetFences()) || len(payloads) != len(uniform.GetFences()) {
		return jobs
	}
	endsAt := endOf(shared)
	for i, fence := range uniform.GetFences() {
		job := ofSort(base, shared, endsAt)
		job.Headers, job.Checkpoint = maps.Clone(job.Headers), bytes.Clone(job.Checkpoint)
		job.JobID, job.Fence = jobid.Text([jobid.Bytes]byte(ids[jobid.Bytes*i:])), fence
		if len(payloads[i]) > 0 {
			// Otherwise nil, as that of a job that came alone.
			job.Payload = payloads[i]
		}
		jobs = append(jobs, job)
	}
	return jobs
}

// column is of outcomes of one queue that say no more than that their jobs have succeeded.
type column struct {
	outcomes  []*pb.JobOutcome
	completed *pb.CompletedJobs
}

// inColumns gives what goes one by one, and in columns by queue the jobs that have completed without a result.
func inColumns(outcomes []*pb.JobOutcome) (alone []*pb.JobOutcome, columns []*column) {
	byQueue := map[string]*column{}
	for _, outcome := range outcomes {
		id, fits := idIfBare(outcome)
		if !fits {
			alone = append(alone, outcome)
			continue
		}
		of := byQueue[outcome.GetQueue()]
		if of == nil {
			of = &column{completed: &pb.CompletedJobs{Queue: outcome.GetQueue()}}
			byQueue[outcome.GetQueue()] = of
			columns = append(columns, of)
		}
		of.outcomes = append(of.outcomes, outcome)
		of.completed.JobIds = append(of.completed.JobIds, id[:]...)
		of.completed.Fences = append(of.completed.Fences, outcome.GetFence())
	}
	return alone, columns
}

// idIfBare gives the id of a job that has completed without a result. An id that is none is for the server to refuse.
func idIfBare(outcome *pb.JobOutcome) (id [jobid.Bytes]byte, fits bool) {
	done := outcome.GetComplete()
	if done == nil || len(done.GetResult()) > 0 {
		return id, false
	}
	id = jobid.Parse(outcome.GetJobId())
	return id, id != [jobid.Bytes]byte{}
}

// outcomesOf all columns.
func outcomesOf(columns []*column) []*pb.JobOutcome {
	var outcomes []*pb.JobOutcome
	for _, each := range columns {
		outcomes = append(outcomes, each.outcomes...)
	}
	return outcomes
}

// unnamed is the result of a job that the answer for its column does not name.
var unnamed = &pb.ReportResult{Status: pb.ReportStatus_REPORT_STATUS_APPLIED, State: pb.JobState_JOB_STATE_SUCCEEDED}

// settle gives each outcome with the result for it.
func (c *column) settle(result *pb.CompletedResult, onAnswer func(*pb.JobOutcome, *pb.ReportResult)) {
	others := make(map[int64]*pb.ReportResult, len(result.GetOthers()))
	for _, other := range result.GetOthers() {
		others[other.GetFence()] = other
	}
	for _, outcome := range c.outcomes {
		onAnswer(outcome, cmp.Or(others[outcome.GetFence()], unnamed))
	}
}
