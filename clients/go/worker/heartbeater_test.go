package worker

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// heard is a heartbeater, and what it tells the rest of the worker.
type heard struct {
	*heartbeater
	lost, superseded, reopened int
}

func beating(t *testing.T, addresses ...string) *heard {
	t.Helper()
	h := &heard{}
	h.heartbeater = &heartbeater{
		servers: servers{addresses: addresses}, session: open(), held: newHeld(), log: quiet, wake: make(chan struct{}, 1),
		onLost: func() { h.lost++ }, onSuperseded: func() { h.superseded++ }, onReopen: func() { h.reopened++ },
	}
	t.Cleanup(h.servers.close)
	return h
}

// checkpointed is a held job with a checkpoint to tell.
func (h *heard) checkpointed(t *testing.T, fence int64) *Job {
	t.Helper()
	job := leased(t, fence)
	_ = job.SaveCheckpoint([]byte("page 7"))
	h.held.add([]*Job{job})
	return job
}

func TestAHeartbeatThatFailsIsToldAgainElsewhere(t *testing.T) {
	asked := make(chan *pb.HeartbeatRequest, 1)
	gate := make(chan struct{})
	silent := serve(t, &scripted{beat: func(*pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
		return nil, refusal(t, codes.Unavailable, "SHUTTING_DOWN")
	}})
	good := serve(t, &scripted{beat: func(request *pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
		asked <- request
		<-gate
		return &pb.HeartbeatResponse{}, nil
	}})
	h := beating(t, silent, good)
	job := h.checkpointed(t, 1)
	done := h.beatNow()
	go h.run(t.Context())
	if told := (<-asked).GetHeld(); len(told) != 1 || string(told[0].GetCheckpoint()) != "page 7" {
		t.Errorf("the next server is told %v", told)
	}
	if job.LeaseState() != Uncertain {
		t.Errorf("while no server answers a lease is %s", job.LeaseState())
	}
	select {
	case <-done:
		t.Error("a heartbeat without an answer counts as answered")
	default:
	}
	close(gate)
	<-done
	if job.LeaseState() != Certain || !h.answered.Load() {
		t.Errorf("answered again, a lease is %s", job.LeaseState())
	}
}

func TestAHeartbeatThatIsAskedForComesAtOnce(t *testing.T) {
	h := beating(t, serve(t, &scripted{beat: func(*pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
		return &pb.HeartbeatResponse{}, nil
	}}))
	go h.run(t.Context())
	for range 3 {
		<-h.beatNow()
	}
}

func TestNoCallWaitsForASilentServerForLong(t *testing.T) {
	server := &scripted{
		beat:   func(*pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) { return &pb.HeartbeatResponse{}, nil },
		report: func(request *pb.ReportRequest) (*pb.ReportResponse, error) { return applied(request), nil },
	}
	address := serve(t, server)
	for interval, most := range map[time.Duration]time.Duration{
		time.Millisecond: heartbeatTimeoutMin, 2 * time.Second: 2 * time.Second, time.Hour: heartbeatTimeoutMax,
	} {
		h := beating(t, address)
		h.session.setHeartbeat(interval)
		if h.beat(t.Context()); server.patience() > most+time.Second/2 {
			t.Errorf("a heartbeat each %s waits for %s", interval, server.patience())
		}
	}
	r, _ := reporting(t, address)
	if r.send(t.Context(), r.outcomes(t, 1)); server.patience() > reportTimeout+time.Second/2 {
		t.Errorf("a report waits for %s", server.patience())
	}
}

func TestAHeartbeatGoesOnUntilAllIsTold(t *testing.T) {
	told := make(chan int, 3)
	h := beating(t, serve(t, &scripted{beat: func(request *pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
		count := 0
		for _, each := range request.GetHeld() {
			if each.Checkpoint != nil {
				count++
			}
		}
		told <- count
		return &pb.HeartbeatResponse{}, nil
	}}))
	jobs := toldBytesMax/checkpointBytesMax + 1
	for fence := range int64(jobs) {
		_ = h.checkpointed(t, fence).SaveCheckpoint(make([]byte, checkpointBytesMax))
	}
	if !h.answers(t.Context()) || <-told+<-told != jobs {
		t.Error("not all was told")
	}
}

// Two refusals in a row and another server is asked: what the first lacks the others may lack too.
func TestARefusalIsNoReasonToLeaveYet(t *testing.T) {
	h := beating(t, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	for i, each := range []struct {
		refused bool
		at      int
	}{{true, 0}, {true, 1}, {true, 1}, {false, 2}, {true, 2}, {true, 0}} {
		h.refused = each.refused
		if h.moveOn(); h.servers.current != each.at {
			t.Errorf("after %d it is at server %d", i+1, h.servers.current)
		}
	}
}

func TestWhatARefusedHeartbeatToldIsToldAgainUnlessItWasAtFault(t *testing.T) {
	for reason, again := range map[string]bool{"INVALID_FIELD": false, "OVERLOADED": true, "DATABASE_UNAVAILABLE": true} {
		h := beating(t, serve(t, &scripted{beat: func(*pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
			return nil, refusal(t, codes.Unavailable, reason)
		}}))
		job := h.checkpointed(t, 1)
		if answered, _ := h.beat(t.Context()); answered || job.hasCheckpointToTell() != again || h.refused != again {
			t.Errorf("%s: answered %t, told again %t, refused %t", reason, answered, job.hasCheckpointToTell(), h.refused)
		}
	}
}

func TestALostSessionIsForgottenWithAllThatItHeld(t *testing.T) {
	h := beating(t, serve(t, &scripted{beat: func(*pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
		return nil, refusal(t, codes.FailedPrecondition, "SESSION_LOST")
	}}))
	job := h.checkpointed(t, 1)
	if answered, _ := h.beat(t.Context()); !answered {
		t.Error("a server that has answered counts as silent")
	}
	if id, epoch := h.session.named(); id != 0 || epoch != 0 || h.lost != 1 || job.LeaseState() != Lost {
		t.Errorf("session %d, epoch %d, lost %d times, a job is %s", id, epoch, h.lost, job.LeaseState())
	}
	select {
	case <-h.session.isOpen():
		t.Error("the session counts as open")
	default:
	}
	if h.session.forget(7) {
		t.Error("a session was forgotten twice")
	}
}

func TestOnlyTheOwnEpochIsSuperseded(t *testing.T) {
	var meanwhile func()
	h := beating(t, serve(t, &scripted{beat: func(*pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
		meanwhile()
		return nil, refusal(t, codes.FailedPrecondition, "SESSION_SUPERSEDED")
	}}))
	for i, each := range []func(){
		func() { h.session.nextEpoch() },
		func() { h.session.forget(7); h.session.openedAs(&pb.SessionOpened{SessionId: 8, Epoch: 2}) },
		func() {},
	} {
		meanwhile = each
		if answered, _ := h.beat(t.Context()); !answered || h.superseded != i/2 {
			t.Errorf("%d: superseded %d times", i, h.superseded)
		}
	}
}

func TestWhatAHeartbeatBringsIsDone(t *testing.T) {
	h := beating(t, serve(t, &scripted{beat: func(*pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
		return &pb.HeartbeatResponse{
			Lost: []*pb.JobLease{{Fence: 1}, {Fence: 9}}, Cancel: []*pb.JobLease{{Fence: 2}, {Fence: 9}},
			HeartbeatInterval: durationpb.New(time.Minute), Stream: pb.StreamState_STREAM_STATE_REOPEN,
		}, nil
	}}))
	lost, cancelled, other := leased(t, 1), leased(t, 2), leased(t, 3)
	h.held.add([]*Job{lost, cancelled, other})
	h.beat(t.Context())
	if lost.LeaseState() != Lost || h.held.get(1) != nil || !errors.Is(context.Cause(cancelled.ctx), ErrCancelRequested) || other.ctx.Err() != nil {
		t.Errorf("%s, %v, %v", lost.LeaseState(), context.Cause(cancelled.ctx), other.ctx.Err())
	}
	if interval, _ := h.session.intervals(); interval != time.Minute || h.reopened != 1 {
		t.Errorf("the next heartbeat is due in %s; reopened %d times", interval, h.reopened)
	}
}
