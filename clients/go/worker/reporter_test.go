package worker

import (
	"context"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

func TestACallGoesBesideOthersOnlyWithALargeBatch(t *testing.T) {
	for _, each := range []struct {
		pending, callsOut int
		worth             bool
	}{
		{0, 0, false}, {1, 0, true}, {besideMin - 1, 1, false}, {besideMin, 1, true}, {besideMin, callsMax, false},
	} {
		r := &reporter{worth: besideMin, callsOut: each.callsOut, pending: make([]*pb.JobOutcome, each.pending)}
		if r.worthACall() != each.worth {
			t.Errorf("%d outcomes with %d calls out", each.pending, each.callsOut)
		}
	}
}

func TestOneMessageTakesNoMoreThanItCarries(t *testing.T) {
	r := &reporter{}
	for range outcomesMax + 1 {
		r.pending = append(r.pending, &pb.JobOutcome{})
	}
	if taken := len(r.take()); taken != outcomesMax || len(r.pending) != 1 {
		t.Errorf("took %d, left %d", taken, len(r.pending))
	}
}

// Python's worker had it: calls that failed together on a silent server rotated back to it.
func TestOfCallsThatFailTogetherOneLeavesTheServer(t *testing.T) {
	s := &servers{addresses: []string{"127.0.0.1:1", "127.0.0.1:2"}}
	defer s.close()
	first, err := s.borrow()
	if err != nil {
		t.Fatal(err)
	}
	second, _ := s.borrow()
	s.leave(first)
	if state := second.conn.GetState().String(); state == "SHUTDOWN" {
		t.Error("the connection was closed under a call that is out on it")
	}
	s.giveBack(first)
	s.leave(second)
	s.giveBack(second)
	if s.current != 1 {
		t.Errorf("the calls to come go to server %d", s.current)
	}
	if state := first.conn.GetState().String(); state != "SHUTDOWN" {
		t.Errorf("the connection that was left is %s", state)
	}
}

func TestAConnectionThatIsLeftWithoutCallsIsClosed(t *testing.T) {
	s := &servers{addresses: []string{"127.0.0.1:1"}}
	defer s.close()
	used, err := s.borrow()
	if err != nil {
		t.Fatal(err)
	}
	s.giveBack(used)
	if s.leave(used); used.conn.GetState() != connectivity.Shutdown {
		t.Errorf("it is %s", used.conn.GetState())
	}
}

// reporting is a reporter of jobs that are held, and the fences of what was answered.
func reporting(t *testing.T, addresses ...string) (*reporter, *[]int64) {
	t.Helper()
	answered := &[]int64{}
	r := &reporter{
		servers: servers{addresses: addresses}, session: open(), held: newHeld(), log: quiet, worth: besideMin,
		onAnswer: func(outcome *pb.JobOutcome, _ *pb.ReportResult) { *answered = append(*answered, outcome.GetFence()) },
		running:  func() int64 { return 0 }, changed: make(chan struct{}, 1), emptied: make(chan struct{}, 1),
	}
	t.Cleanup(r.servers.close)
	return r, answered
}

// outcomes of so many jobs, which are held.
func (r *reporter) outcomes(t *testing.T, count int) []*pb.JobOutcome {
	t.Helper()
	var made []*pb.JobOutcome
	for fence := range int64(count) {
		job := leased(t, fence+1)
		r.held.add([]*Job{job})
		outcome := outcomeOf(job)
		complete(outcome, nil)
		made = append(made, outcome)
	}
	return made
}

func (h *held) count() int {
	jobs, _ := h.snapshot()
	return len(jobs)
}

func applied(request *pb.ReportRequest) *pb.ReportResponse {
	response := &pb.ReportResponse{}
	for range request.GetOutcomes() {
		response.Results = append(response.Results, &pb.ReportResult{Status: pb.ReportStatus_REPORT_STATUS_APPLIED})
	}
	for range request.GetCompleted() {
		response.Completed = append(response.Completed, &pb.CompletedResult{})
	}
	return response
}

func TestAReportIsRepeatedUntilItIsAnsweredAndItsJobsHeldSoLong(t *testing.T) {
	var r *reporter
	asked := 0
	address := serve(t, &scripted{report: func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
		if r.held.count() != 3 || request.GetSessionId() != 7 {
			t.Errorf("%d jobs are held in session %d", r.held.count(), request.GetSessionId())
		}
		switch asked++; asked {
		case 1:
			return nil, status.Error(codes.DeadlineExceeded, "no answer")
		case 2:
			return nil, status.Error(codes.Unavailable, "a connection broke")
		case 3:
			return nil, refusal(t, codes.Unavailable, "DATABASE_UNAVAILABLE")
		}
		return applied(request), nil
	}})
	r, answered := reporting(t, address)
	r.send(t.Context(), r.outcomes(t, 3))
	if asked != 4 || r.held.count() != 0 || !slices.Equal(*answered, []int64{1, 2, 3}) {
		t.Errorf("asked %d times, %d held, answered %v", asked, r.held.count(), *answered)
	}
}

func TestABadOutcomeTakesNoOtherWithIt(t *testing.T) {
	for bad, want := range map[string]string{"result": "a test wants it so", "type": ""} {
		kept := map[int64]string{}
		address := serve(t, &scripted{report: func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
			for _, outcome := range request.GetOutcomes() {
				if outcome.GetFence() == 2 && (outcome.GetComplete() != nil || bad == "type") {
					return nil, refusal(t, codes.InvalidArgument, "INVALID_FIELD")
				}
			}
			for _, outcome := range request.GetOutcomes() {
				kept[outcome.GetFence()] = outcome.GetFail().GetError().GetMessage()
			}
			return applied(request), nil
		}})
		r, _ := reporting(t, address)
		r.send(t.Context(), r.outcomes(t, 5))
		_, reported := kept[2]
		if r.held.count() != 0 || len(kept) < 4 || reported != (want != "") || !strings.Contains(kept[2], want) {
			t.Errorf("bad %s: %d held, kept %v", bad, r.held.count(), kept)
		}
	}
}

func TestWhatTheServerCannotTakeIsGivenBack(t *testing.T) {
	asked := 0
	address := serve(t, &scripted{report: func(*pb.ReportRequest) (*pb.ReportResponse, error) {
		asked++
		return nil, refusal(t, codes.Internal, "INTERNAL")
	}})
	r, answered := reporting(t, address)
	r.send(t.Context(), r.outcomes(t, 3))
	if asked != 1 || r.held.count() != 0 || len(*answered) != 0 {
		t.Errorf("asked %d times, %d held, answered %v", asked, r.held.count(), *answered)
	}
}

func TestAReportThatWaitsLeavesAServerUnlessItIsThereAndAlone(t *testing.T) {
	for _, each := range []struct {
		reason  string
		servers int
		leaves  bool
	}{{"OVERLOADED", 1, false}, {"DATABASE_UNAVAILABLE", 2, true}, {"SHUTTING_DOWN", 1, true}} {
		asked := 0
		address := serve(t, &scripted{report: func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
			if asked++; asked == 1 {
				return nil, refusal(t, codes.Unavailable, each.reason)
			}
			return applied(request), nil
		}})
		r, _ := reporting(t, slices.Repeat([]string{address}, each.servers)...)
		before, _ := r.servers.borrow()
		r.send(t.Context(), r.outcomes(t, 1))
		if left := r.servers.link != before; left != each.leaves || before.left != each.leaves {
			t.Errorf("%s of %d servers: left %t", each.reason, each.servers, left)
		}
		r.servers.giveBack(before)
		if shut := before.conn.GetState() == connectivity.Shutdown; shut != each.leaves {
			t.Errorf("%s: the connection is closed: %t", each.reason, shut)
		}
	}
}

func TestAMessageStaysWithinItsBytes(t *testing.T) {
	r := &reporter{}
	for range 3 {
		outcome := &pb.JobOutcome{}
		complete(outcome, make([]byte, resultBytesMax))
		r.pending = append(r.pending, slices.Repeat([]*pb.JobOutcome{outcome}, 8)...)
	}
	for _, want := range []int{11, 11, 2} {
		if taken := len(r.take()); taken != want {
			t.Errorf("took %d instead of %d", taken, want)
		}
	}
	large := &pb.JobOutcome{JobId: strings.Repeat("x", reportBytesMax)}
	if r.pending = []*pb.JobOutcome{large, large}; len(r.take()) != 1 {
		t.Error("one that is too large alone never goes")
	}
}

func TestAFlushWaitsForWhatIsOut(t *testing.T) {
	gate, out := make(chan struct{}), make(chan struct{}, 1)
	r, _ := reporting(t, serve(t, &scripted{report: func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
		out <- struct{}{}
		<-gate
		return applied(request), nil
	}}))
	go r.run(t.Context())
	r.report(r.outcomes(t, 1)[0])
	<-out
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if r.flush(over) {
		t.Error("what is out counts as answered")
	}
	close(gate)
	if !r.flush(t.Context()) || r.held.count() != 0 {
		t.Errorf("%d are held after the flush", r.held.count())
	}
}
