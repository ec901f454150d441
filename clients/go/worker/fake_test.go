package worker

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// scripted is a server that answers one part of a worker as a test wants it.
type scripted struct {
	pb.UnimplementedWorkerServiceServer
	beat   func(*pb.HeartbeatRequest) (*pb.HeartbeatResponse, error)
	report func(*pb.ReportRequest) (*pb.ReportResponse, error)
	lease  func(*pb.LeaseRequest, grpc.ServerStreamingServer[pb.LeaseResponse]) error
	// How long the last caller waits. Calls come side by side.
	last atomic.Int64
}

func (s *scripted) patience() time.Duration { return time.Duration(s.last.Load()) }

func (s *scripted) note(ctx context.Context) {
	patience := time.Hour
	if deadline, limited := ctx.Deadline(); limited {
		patience = time.Until(deadline)
	}
	s.last.Store(int64(patience))
}

func (s *scripted) Heartbeat(ctx context.Context, request *pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
	s.note(ctx)
	return s.beat(request)
}

func (s *scripted) Report(ctx context.Context, request *pb.ReportRequest) (*pb.ReportResponse, error) {
	s.note(ctx)
	return s.report(request)
}

func (s *scripted) Lease(request *pb.LeaseRequest, stream grpc.ServerStreamingServer[pb.LeaseResponse]) error {
	return s.lease(request, stream)
}

// serve gives the address at which it listens.
func serve(t *testing.T, answers *scripted) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterWorkerServiceServer(server, answers)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// refusal is what a server says with a reason of the contract.
func refusal(t *testing.T, code codes.Code, reason string) error {
	t.Helper()
	answer, err := status.New(code, "a test wants it so").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "atlasqueue"})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Err()
}

// open is a session that beats once an hour, unless it is asked to.
func open() *session {
	made := newSession()
	made.openedAs(&pb.SessionOpened{SessionId: 7, Epoch: 1, HeartbeatInterval: durationpb.New(time.Hour)})
	return made
}

// leased is a job that has arrived.
func leased(t *testing.T, fence int64) *Job {
	t.Helper()
	return newJob(t.Context(), &pb.LeasedJob{Queue: "q", JobId: "id", Fence: fence, Kind: "k"})
}

var quiet = slog.New(slog.DiscardHandler)
