package atlasqueuetest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	"github.com/atlasqueue/atlasqueue/clients/go/atlasqueuetest"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// stored enqueues so many jobs like this one, each with its number as beginning of its payload.
func stored(t *testing.T, server *atlasqueuetest.Server, shared *pb.NewJob, count int, more string) []string {
	t.Helper()
	var ids []string
	for range count {
		ids = append(ids, atlasqueue.NewJobID())
	}
	jobs := uniformed(shared, ids...)
	for i := range jobs.GetPayloads() {
		jobs.Payloads[i] = append(jobs.Payloads[i], more...)
	}
	if _, err := producer(t, server).EnqueueBatch(t.Context(), &pb.EnqueueBatchRequest{Uniform: []*pb.UniformJobs{jobs}}); err != nil {
		t.Fatal(err)
	}
	return ids
}

// came gives the events that bring so many jobs of a queue to a stream of its own.
func came(t *testing.T, server *atlasqueuetest.Server, queue string, uniform bool, count int) []*pb.LeasedJobs {
	t.Helper()
	request := &pb.LeaseRequest{Queues: []string{queue}, Slots: int32(count), Worker: "w", Uniform: uniform}
	stream, err := workers(t, server).Lease(t.Context(), request)
	var events []*pb.LeasedJobs
	for err == nil && count > 0 {
		var event *pb.LeaseResponse
		if event, err = stream.Recv(); event.GetLeasedJobs() == nil {
			continue
		}
		leased := event.GetLeasedJobs()
		count -= len(leased.GetJobs())
		for _, columns := range leased.GetUniform() {
			count -= len(columns.GetFences())
		}
		events = append(events, leased)
	}
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestJobsOfASortComeInColumnsToWhoAsksForThem(t *testing.T) {
	for _, each := range []struct {
		uniform        bool
		count, columns int
	}{{true, 16, 1}, {true, 15, 0}, {false, 16, 0}} {
		server := atlasqueuetest.NewServer(t)
		shared := &pb.NewJob{Queue: "q", Kind: "k", Headers: map[string]string{"a": "b", "c": "d"}, Priority: new(int32(2))}
		got, other := 0, proto.CloneOf(shared)
		other.Headers["c"] = "other"
		ids := stored(t, server, shared, 1, "")
		odd := stored(t, server, other, 1, "")
		ids = append(ids, stored(t, server, shared, each.count-1, "")...)
		events := came(t, server, "q", each.uniform, each.count+1)
		if second := events[1].GetJobs(); len(second) != 1 || second[0].GetJobId() != odd[0] {
			t.Errorf("%v came instead of the second", events[1])
		}
		for _, event := range events {
			for _, columns := range event.GetUniform() {
				got++
				first := columns.GetShared()
				if first.GetQueue() != "q" || first.GetKind() != "k" || first.GetPriority() != 2 || first.GetDeliveries() != 1 || first.GetMaxAttempts() != 20 ||
					len(first.GetHeaders()) != 2 || first.GetHeaders()["c"] != "d" || first.GetJobId() != "" || first.GetFence() != 0 || first.GetPayload() != nil {
					t.Errorf("shared is %v", first)
				}
				payloads := slices.Concat([][]byte{[]byte("0")}, uniformed(nil, ids[1:]...).GetPayloads())
				if !slices.Equal(columns.GetJobIds(), uniformed(nil, ids...).GetJobIds()) || fmt.Sprint(columns.GetPayloads()) != fmt.Sprint(payloads) ||
					len(columns.GetFences()) != each.count || !slices.IsSorted(columns.GetFences()) {
					t.Errorf("got %v", columns)
				}
			}
		}
		if got != each.columns {
			t.Errorf("%+v: %d columns", each, got)
		}
	}
}

// A message over 4 MiB ended the stream.
func TestColumnsAreNoLargerThanAMessage(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	for range 2 {
		stored(t, server, &pb.NewJob{Queue: "q", Kind: "k"}, 16, strings.Repeat("x", 200<<10))
	}
	if events := came(t, server, "q", true, 32); len(events) < 2 {
		t.Errorf("%d events", len(events))
	}
}

// leases gives so many leases that a stream brings in columns, and what completes them.
func leases(t *testing.T, server *atlasqueuetest.Server, queue string, count int) *pb.CompletedJobs {
	t.Helper()
	stored(t, server, &pb.NewJob{Queue: queue, Kind: "k"}, count, "")
	columns := came(t, server, queue, true, count)[0].GetUniform()[0]
	return &pb.CompletedJobs{Queue: queue, JobIds: columns.GetJobIds(), Fences: columns.GetFences()}
}

func TestOnlyWhatIsNotAppliedIsNamed(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	stubs := workers(t, server)
	lost := leases(t, server, "q", 16)
	server.ExpireSessions()
	done := leases(t, server, "p", 16)
	completed := &pb.ReportRequest{Completed: []*pb.CompletedJobs{lost, done}}
	for _, status := range []pb.ReportStatus{0, pb.ReportStatus_REPORT_STATUS_ALREADY_APPLIED} {
		answer, err := stubs.Report(t.Context(), completed)
		if err != nil || len(answer.GetCompleted()) != 2 || len(answer.GetCompleted()[0].GetOthers()) != 16 {
			t.Fatalf("got %v, %v", answer, err)
		}
		for i, other := range answer.GetCompleted()[0].GetOthers() {
			if other.GetStatus() != pb.ReportStatus_REPORT_STATUS_STALE || other.GetFence() != lost.GetFences()[i] || other.GetState() != 0 {
				t.Errorf("got %v", other)
			}
		}
		if others := answer.GetCompleted()[1].GetOthers(); (status == 0) != (len(others) == 0) || (status != 0 && others[15].GetStatus() != status) {
			t.Errorf("got %v", others)
		}
	}
	jobs, err := producer(t, server).ListJobs(t.Context(), &pb.ListJobsRequest{Queue: "p", State: pb.JobState_JOB_STATE_SUCCEEDED})
	if err != nil || len(jobs.GetJobs()) != 16 {
		t.Fatalf("got %v, %v", jobs, err)
	}
	// The two forms say the same.
	same := &pb.JobOutcome{Queue: "p", JobId: jobs.GetJobs()[0].GetJobId(), Fence: jobs.GetJobs()[0].GetFence(), Outcome: &pb.JobOutcome_Complete{Complete: &pb.Complete{}}}
	unknown := uniformed(nil, atlasqueue.NewJobID())
	answer, err := stubs.Report(t.Context(), &pb.ReportRequest{
		Outcomes: []*pb.JobOutcome{same}, Completed: []*pb.CompletedJobs{{Queue: "p", JobIds: unknown.GetJobIds(), Fences: []int64{99}}},
	})
	if err != nil || answer.GetResults()[0].GetStatus() != pb.ReportStatus_REPORT_STATUS_ALREADY_APPLIED ||
		answer.GetCompleted()[0].GetOthers()[0].GetStatus() != pb.ReportStatus_REPORT_STATUS_NOT_FOUND {
		t.Errorf("got %v, %v", answer, err)
	}
}

func TestAReportThatCannotBeReadChangesNothing(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	stubs := workers(t, server)
	held := leases(t, server, "q", 16)
	for field, broken := range map[string]func(*pb.ReportRequest){
		"completed[0].queue":     func(r *pb.ReportRequest) { r.Completed[0].Queue = "not a name" },
		"completed[0].job_ids":   func(r *pb.ReportRequest) { r.Completed[0].JobIds = r.Completed[0].JobIds[1:] },
		"completed[0].fences":    func(r *pb.ReportRequest) { r.Completed[0].Fences[3] = 0 },
		"completed[1].fences":    func(r *pb.ReportRequest) { r.Completed = append(r.Completed, &pb.CompletedJobs{Queue: "q"}) },
		"outcomes and completed": func(r *pb.ReportRequest) { r.Outcomes = []*pb.JobOutcome{{Fence: held.GetFences()[0]}} },
	} {
		request := &pb.ReportRequest{Completed: []*pb.CompletedJobs{proto.CloneOf(held)}}
		broken(request)
		_, err := stubs.Report(t.Context(), request)
		if got := fieldOf(status.Convert(err).Proto()); got != field {
			t.Errorf("%s: got %s", field, got)
		}
	}
	over := &pb.CompletedJobs{Queue: "q", JobIds: make([]byte, 16*10_001)}
	for fence := range int64(10_001) {
		over.Fences = append(over.Fences, fence+1)
	}
	for _, request := range []*pb.ReportRequest{{}, {Completed: []*pb.CompletedJobs{over}}} {
		if _, err := stubs.Report(t.Context(), request); fieldOf(status.Convert(err).Proto()) != "outcomes and completed" {
			t.Errorf("got %v", err)
		}
	}
	answer, err := stubs.Report(t.Context(), &pb.ReportRequest{Completed: []*pb.CompletedJobs{held}})
	if err != nil || len(answer.GetCompleted()[0].GetOthers()) != 0 {
		t.Errorf("got %v, %v", answer, err)
	}
}
