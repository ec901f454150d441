package worker

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

type leases = grpc.ServerStreamingServer[pb.LeaseResponse]

// streaming is a stream to servers of which each answers an opening as `script` does, with the number of the server.
func streaming(t *testing.T, count int, script func(server int, request *pb.LeaseRequest, stream leases) error) *stream {
	t.Helper()
	var addresses []string
	for server := range count {
		addresses = append(addresses, serve(t, &scripted{lease: func(request *pb.LeaseRequest, stream leases) error {
			return script(server, request, stream)
		}}))
	}
	return &stream{
		servers: servers{addresses: addresses}, terms: &pb.LeaseRequest{Worker: "w"}, session: newSession(), held: newHeld(),
		log: quiet, base: t.Context(), onJobs: func([]*Job) {},
	}
}

func opens(stream leases, epoch int64, ping time.Duration) error {
	return stream.Send(&pb.LeaseResponse{Event: &pb.LeaseResponse_SessionOpened{SessionOpened: &pb.SessionOpened{
		SessionId: 7, Epoch: epoch, HeartbeatInterval: durationpb.New(time.Hour), PingInterval: durationpb.New(ping),
	}}})
}

func brings(stream leases, fences ...int64) error {
	var jobs []*pb.LeasedJob
	for _, fence := range fences {
		jobs = append(jobs, &pb.LeasedJob{Queue: "q", JobId: "id", Kind: "k", Fence: fence})
	}
	return stream.Send(&pb.LeaseResponse{Event: &pb.LeaseResponse_LeasedJobs{LeasedJobs: &pb.LeasedJobs{Jobs: jobs}}})
}

// superseded ends a stream for ever, and with it a test.
func superseded(t *testing.T) error {
	return refusal(t, codes.FailedPrecondition, "SESSION_SUPERSEDED")
}

func (s *stream) runsOut(t *testing.T) {
	t.Helper()
	if err := s.run(t.Context()); !errors.Is(err, atlasqueue.ErrSessionSuperseded) {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestAStreamThatBreaksGoesOnWithItsSession(t *testing.T) {
	var asked []*pb.LeaseRequest
	s := streaming(t, 1, func(_ int, request *pb.LeaseRequest, stream leases) error {
		if asked = append(asked, request); len(asked) > 1 {
			return superseded(t)
		}
		return errors.Join(opens(stream, 1, time.Hour), brings(stream, 5, 3), status.Error(codes.Unavailable, "a connection broke"))
	})
	s.onJobs = func(jobs []*Job) {
		if len(jobs) != 2 || s.held.get(5) != jobs[0] {
			t.Error("a job runs before it is held")
		}
	}
	s.runsOut(t)
	if first := asked[0]; first.GetSessionId() != 0 || first.GetEpoch() != 0 {
		t.Errorf("the first stream asks for %v", first)
	}
	if again := asked[1]; again.GetSessionId() != 7 || again.GetEpoch() != 2 || again.GetLastFence() != 5 || again.GetWorker() != "w" {
		t.Errorf("the second stream asks for %v", again)
	}
}

func TestAStreamOfALostSessionBeginsAnew(t *testing.T) {
	var asked []*pb.LeaseRequest
	var job *Job
	s := streaming(t, 1, func(_ int, request *pb.LeaseRequest, stream leases) error {
		if asked = append(asked, request); len(asked) > 1 {
			return superseded(t)
		}
		return errors.Join(opens(stream, 1, time.Hour), brings(stream, 5), refusal(t, codes.FailedPrecondition, "SESSION_LOST"))
	})
	s.onJobs = func(jobs []*Job) { job = jobs[0] }
	s.runsOut(t)
	if again := asked[1]; again.GetSessionId() != 0 || again.GetLastFence() != 0 || job.LeaseState() != Lost {
		t.Errorf("the second stream asks for %v; the job is %s", again, job.LeaseState())
	}
}

func TestWhichServerTheNextStreamIsOf(t *testing.T) {
	for name, each := range map[string]struct {
		first func(*stream, leases) error
		next  int
	}{
		"it never opened": {func(*stream, leases) error { return status.Error(codes.Unavailable, "no") }, 1},
		"it broke":        {func(_ *stream, stream leases) error { return opens(stream, 1, time.Hour) }, 0},
		"it was sent away": {func(_ *stream, stream leases) error {
			away := &pb.LeaseResponse{Event: &pb.LeaseResponse_GoAway{GoAway: &pb.GoAway{}}}
			return errors.Join(opens(stream, 1, time.Hour), stream.Send(away))
		}, 1},
		"it fell silent": {func(s *stream, stream leases) error {
			err := opens(stream, 1, time.Hour)
			for !s.open.Load() {
				time.Sleep(time.Millisecond)
			}
			s.heardAt.Store(time.Now().Add(-3 * time.Hour).UnixNano())
			<-stream.Context().Done()
			return err
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked []int
			var s *stream
			s = streaming(t, 2, func(server int, _ *pb.LeaseRequest, stream leases) error {
				if asked = append(asked, server); len(asked) > 1 {
					return superseded(t)
				}
				return each.first(s, stream)
			})
			if s.runsOut(t); asked[1] != each.next {
				t.Errorf("asked %v", asked)
			}
		})
	}
}

func TestAServerThatSendsAwayNamesTheWait(t *testing.T) {
	s := streaming(t, 1, nil)
	s.handle(&pb.LeaseResponse{Event: &pb.LeaseResponse_GoAway{GoAway: &pb.GoAway{ReconnectAfter: durationpb.New(time.Minute)}}})
	if s.wait != time.Minute {
		t.Errorf("waits %s", s.wait)
	}
}

func TestACancelOnTheStreamEndsTheContext(t *testing.T) {
	s := streaming(t, 1, nil)
	job, other := leased(t, 1), leased(t, 2)
	s.held.add([]*Job{job, other})
	asked := &pb.CancelRequested{Jobs: []*pb.JobLease{{Fence: 1}, {Fence: 9}}}
	s.handle(&pb.LeaseResponse{Event: &pb.LeaseResponse_CancelRequested{CancelRequested: asked}})
	if !errors.Is(context.Cause(job.ctx), ErrCancelRequested) || other.ctx.Err() != nil {
		t.Errorf("%v, %v", context.Cause(job.ctx), other.ctx.Err())
	}
}

// The server says REOPEN of a stream that it has not seen yet, too.
func TestOnlyASilentStreamIsReopened(t *testing.T) {
	s := streaming(t, 1, nil)
	dropped := false
	s.setDrop(func() { dropped = true })
	s.touch()
	if s.reopen(); dropped {
		t.Error("a stream that was heard of just now was dropped")
	}
	_, ping := s.session.intervals()
	s.heardAt.Store(time.Now().Add(-2 * ping).UnixNano())
	if s.reopen(); !dropped {
		t.Error("a silent stream was kept")
	}
}
