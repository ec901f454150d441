package worker

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// oneJob is a server that leases one job and hands on each heartbeat.
func oneJob(beats chan *pb.HeartbeatRequest) *scripted {
	return &scripted{
		lease: func(_ *pb.LeaseRequest, stream leases) error {
			err := errors.Join(opens(stream, 1, time.Hour), brings(stream, 5))
			<-stream.Context().Done()
			return err
		},
		beat: func(request *pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
			beats <- request
			return &pb.HeartbeatResponse{}, nil
		},
		report: func(request *pb.ReportRequest) (*pb.ReportResponse, error) { return applied(request), nil },
	}
}

// started runs a worker of one handler.
func started(t *testing.T, ctx context.Context, server *scripted, handler Handler) (*Worker, chan error) {
	t.Helper()
	app := NewApp()
	app.Handle("k", "q", handler)
	w, err := New(app, WithServers(serve(t, server)), WithLogger(quiet), WithGrace(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	return w, ended
}

func TestADrainTellsThatNothingComesAndSaysGoodbye(t *testing.T) {
	beats := make(chan *pb.HeartbeatRequest, 100)
	begun, release := make(chan struct{}), make(chan struct{})
	w, ended := started(t, t.Context(), oneJob(beats), func(context.Context, *Job) ([]byte, error) {
		close(begun)
		<-release
		return nil, nil
	})
	<-begun
	w.Stop()
	// While the handler still runs: what is on its way goes back now, not after the grace.
	for beat := range beats {
		if beat.GetLastFence() == math.MaxInt64 {
			break
		}
	}
	close(release)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	var last *pb.HeartbeatRequest
	for len(beats) > 0 {
		last = <-beats
	}
	if last == nil || len(last.GetHeld()) != 0 || last.GetLastFence() != math.MaxInt64 {
		t.Errorf("the last heartbeat is %v", last)
	}
	if w.stream.servers.link != nil || w.heartbeater.servers.link != nil || w.reporter.servers.link != nil {
		t.Error("a connection is open after the end")
	}
}

func TestTheEndOfTheContextDrainsAndHandlersDoNotSeeIt(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "mine"))
	release := make(chan struct{})
	begun := make(chan context.Context, 1)
	w, ended := started(t, ctx, oneJob(make(chan *pb.HeartbeatRequest, 100)), func(ctx context.Context, _ *Job) ([]byte, error) {
		begun <- ctx
		<-release
		return nil, nil
	})
	handlers := <-begun
	cancel()
	<-w.stopping
	if handlers.Err() != nil || handlers.Value(key{}) != "mine" {
		t.Errorf("a handler sees %v, %v", handlers.Err(), handlers.Value(key{}))
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAWorkerWhoseSessionIsAnothersEndsWithThatError(t *testing.T) {
	server := oneJob(nil)
	server.beat = func(*pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
		return nil, refusal(t, codes.FailedPrecondition, "SESSION_SUPERSEDED")
	}
	_, ended := started(t, t.Context(), server, func(context.Context, *Job) ([]byte, error) { return nil, nil })
	if err := <-ended; !errors.Is(err, atlasqueue.ErrSessionSuperseded) {
		t.Errorf("got %v", err)
	}
}
