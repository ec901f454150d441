package worker

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/jobid"
)

// completes are outcomes of jobs that have completed without a result and are held.
func (r *reporter) completes(t *testing.T, queue string, fences ...int64) []*pb.JobOutcome {
	t.Helper()
	var made []*pb.JobOutcome
	for _, fence := range fences {
		job := newJob(t.Context(), &pb.LeasedJob{Queue: queue, JobId: uuid(fence), Fence: fence, Kind: "k"})
		r.held.add([]*Job{job})
		outcome := outcomeOf(job)
		complete(outcome, nil)
		made = append(made, outcome)
	}
	return made
}

// statuses makes the reporter note what it was answered of each job, and that it is not held any more.
func (r *reporter) statuses(t *testing.T) map[int64]string {
	t.Helper()
	noted := map[int64]string{}
	r.onAnswer = func(outcome *pb.JobOutcome, result *pb.ReportResult) {
		if noted[outcome.GetFence()] != "" || r.held.get(outcome.GetFence()) != nil {
			t.Errorf("%d was answered twice, or is held", outcome.GetFence())
		}
		noted[outcome.GetFence()] = strings.TrimPrefix(result.GetStatus().String(), "REPORT_STATUS_")
	}
	return noted
}

func TestOnlyCompletesWithoutAResultGoInColumns(t *testing.T) {
	var r *reporter
	var sent *pb.ReportRequest
	r, _ = reporting(t, serve(t, &scripted{report: func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
		sent = request
		if r.held.count() != 9 {
			t.Errorf("%d are held", r.held.count())
		}
		return applied(request), nil
	}}))
	noted := r.statuses(t)
	outcomes := slices.Concat(r.completes(t, "q", 3, 1), r.completes(t, "other", 2), r.completes(t, "q", 4, 5, 6, 7, 8, 9))
	complete(outcomes[1], []byte("kept"))
	complete(outcomes[3], []byte{})
	outcomes[4].Outcome = &pb.JobOutcome_Fail{Fail: &pb.Fail{}}
	outcomes[5].JobId, outcomes[6].JobId, outcomes[7].JobId = "an id", jobid.Text([16]byte{}), strings.ToUpper(uuid(8))
	complete(outcomes[8], make([]byte, resultBytesMax+1))
	r.send(t.Context(), outcomes)
	want := &pb.ReportRequest{SessionId: 7, Outcomes: []*pb.JobOutcome{outcomes[1], outcomes[4], outcomes[5], outcomes[6], outcomes[8]}}
	for _, of := range [][]int64{{3, 4, 8}, {2}} {
		columns := uniform(nil, of...)
		want.Completed = append(want.Completed, &pb.CompletedJobs{JobIds: columns.GetJobIds(), Fences: of})
	}
	want.Completed[0].Queue, want.Completed[1].Queue = "q", "other"
	if !proto.Equal(sent, want) {
		t.Errorf("sent %v instead of %v", sent, want)
	}
	for fence := range int64(9) {
		if noted[fence+1] != "APPLIED" {
			t.Errorf("%d was answered %q", fence+1, noted[fence+1])
		}
	}
}

func TestWhatAnAnswerNamesWasNotApplied(t *testing.T) {
	r, _ := reporting(t, serve(t, &scripted{report: func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
		response := applied(request)
		response.GetResults()[0].Status = pb.ReportStatus_REPORT_STATUS_STALE
		response.GetCompleted()[1].Others = []*pb.ReportResult{
			{JobId: uuid(5), Fence: 5, Status: pb.ReportStatus_REPORT_STATUS_NOT_FOUND},
			{JobId: uuid(3), Fence: 3, Status: pb.ReportStatus_REPORT_STATUS_STALE},
			{JobId: uuid(6), Fence: 6, Status: pb.ReportStatus_REPORT_STATUS_ALREADY_APPLIED},
		}
		return response, nil
	}}))
	noted := r.statuses(t)
	outcomes := slices.Concat(r.completes(t, "p", 1), r.completes(t, "q", 2, 3, 4, 5, 6), r.completes(t, "p", 7))
	complete(outcomes[6], []byte("kept"))
	r.send(t.Context(), outcomes)
	want := map[int64]string{1: "APPLIED", 2: "APPLIED", 3: "STALE", 4: "APPLIED", 5: "NOT_FOUND", 6: "ALREADY_APPLIED", 7: "STALE"}
	if !maps.Equal(noted, want) || r.held.count() != 0 {
		t.Errorf("answered %v; %d are held", noted, r.held.count())
	}
}

// older is a server that knows no columns; it notes which outcomes each call has brought.
type older struct {
	*testing.T
	reporter *reporter
	calls    [][]int64
	// How many jobs were held when each call came.
	held []int
}

func (o *older) report(request *pb.ReportRequest) (*pb.ReportResponse, error) {
	var fences []int64
	for _, outcome := range request.GetOutcomes() {
		fences = append(fences, outcome.GetFence())
	}
	o.calls, o.held = append(o.calls, fences), append(o.held, o.reporter.held.count())
	if len(fences) == 0 {
		return nil, refusal(o.T, codes.InvalidArgument, "INVALID_FIELD")
	}
	response := applied(request)
	response.Completed = nil
	return response, nil
}

func TestAServerThatIsOlderThanColumnsIsToldOneByOne(t *testing.T) {
	for name, each := range map[string]struct {
		result []byte
		calls  [][]int64
		held   []int
	}{
		"it refuses what is empty to it": {nil, [][]int64{nil, {1, 2, 3, 4}}, []int{4, 4}},
		"it passes over them":            {[]byte("kept"), [][]int64{{4}, {1, 2, 3}}, []int{4, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			server := &older{T: t}
			r, _ := reporting(t, serve(t, &scripted{report: server.report}))
			server.reporter = r
			noted := r.statuses(t)
			outcomes := r.completes(t, "q", 1, 2, 3, 4)
			complete(outcomes[3], each.result)
			r.send(t.Context(), outcomes)
			if !reflect.DeepEqual(server.calls, each.calls) || !slices.Equal(server.held, each.held) || len(noted) != 4 || r.held.count() != 0 {
				t.Errorf("called with %v while %v were held; answered %v", server.calls, server.held, noted)
			}
			// It is not asked again each time, nor for ever not.
			server.calls = nil
			if r.send(t.Context(), r.completes(t, "q", 5)); !reflect.DeepEqual(server.calls, [][]int64{{5}}) {
				t.Errorf("then called with %v", server.calls)
			}
			server.calls, r.olderUntil = nil, r.olderUntil.Add(-olderFor)
			if r.send(t.Context(), r.completes(t, "q", 6)); !reflect.DeepEqual(server.calls, [][]int64{nil, {6}}) {
				t.Errorf("a minute later called with %v", server.calls)
			}
		})
	}
}

func TestABadOutcomeTakesNoColumnWithIt(t *testing.T) {
	for name, result := range map[string][]byte{"in a column": nil, "beside a column": []byte("bad")} {
		kept := map[int64]string{}
		r, _ := reporting(t, serve(t, &scripted{report: func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
			taken := map[int64]string{}
			for _, column := range request.GetCompleted() {
				for _, fence := range column.GetFences() {
					taken[fence] = "complete"
				}
			}
			for _, outcome := range request.GetOutcomes() {
				taken[outcome.GetFence()] = "complete"
				if outcome.GetFail() != nil {
					taken[outcome.GetFence()] = outcome.GetFail().GetError().GetType()
				}
			}
			if taken[2] == "complete" {
				return nil, refusal(t, codes.InvalidArgument, "INVALID_FIELD")
			}
			for fence, ended := range taken {
				if kept[fence] != "" {
					t.Errorf("%d came again after it was stored", fence)
				}
				kept[fence] = ended
			}
			return applied(request), nil
		}}))
		noted := r.statuses(t)
		outcomes := r.completes(t, "q", 1, 2, 3, 4, 5)
		complete(outcomes[1], result)
		r.send(t.Context(), outcomes)
		want := map[int64]string{1: "complete", 2: outcomeRefused, 3: "complete", 4: "complete", 5: "complete"}
		if !maps.Equal(kept, want) || r.held.count() != 0 || len(noted) != 5 {
			t.Errorf("%s: kept %v, answered %v, %d are held", name, kept, noted, r.held.count())
		}
	}
}

func TestAReportInColumnsIsRepeatedUntilItIsAnswered(t *testing.T) {
	var r *reporter
	asked := 0
	r, _ = reporting(t, serve(t, &scripted{report: func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
		if asked++; r.held.count() != 3 || !slices.Equal(request.GetCompleted()[0].GetFences(), []int64{1, 2, 3}) {
			t.Errorf("%d are held, sent %v", r.held.count(), request)
		}
		if asked == 1 {
			return nil, status.Error(codes.Unavailable, "the answer was lost")
		}
		response := applied(request)
		for _, fence := range request.GetCompleted()[0].GetFences() {
			other := &pb.ReportResult{JobId: uuid(fence), Fence: fence, Status: pb.ReportStatus_REPORT_STATUS_ALREADY_APPLIED}
			response.GetCompleted()[0].Others = append(response.GetCompleted()[0].Others, other)
		}
		return response, nil
	}}))
	noted := r.statuses(t)
	r.send(t.Context(), r.completes(t, "q", 1, 2, 3))
	if asked != 2 || r.held.count() != 0 || !maps.Equal(noted, map[int64]string{1: "ALREADY_APPLIED", 2: "ALREADY_APPLIED", 3: "ALREADY_APPLIED"}) {
		t.Errorf("asked %d times, %d are held, answered %v", asked, r.held.count(), noted)
	}
}

func TestOtherRefusalsAreOfColumnsAsOfAllOthers(t *testing.T) {
	for _, each := range []struct {
		code   codes.Code
		reason string
		calls  []int
		kept   int
	}{{codes.Internal, "INTERNAL", []int{5}, 0}, {codes.ResourceExhausted, "", []int{5, 2, 3}, 5}} {
		var calls []int
		r, _ := reporting(t, serve(t, &scripted{report: func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
			count := len(request.GetOutcomes())
			for _, column := range request.GetCompleted() {
				count += len(column.GetFences())
			}
			if calls = append(calls, count); len(calls) == 1 {
				return nil, refusal(t, each.code, each.reason)
			}
			return applied(request), nil
		}}))
		noted := r.statuses(t)
		outcomes := r.completes(t, "q", 1, 2, 3, 4, 5)
		complete(outcomes[1], []byte("kept"))
		r.send(t.Context(), outcomes)
		if !slices.Equal(calls, each.calls) || r.held.count() != 0 || len(noted) != each.kept {
			t.Errorf("%s: called with %v, answered %v, %d are held", each.reason, calls, noted, r.held.count())
		}
	}
}
