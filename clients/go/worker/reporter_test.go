package worker

import (
	"testing"

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
