// Package atlasqueuetest is a fake server in memory, for tests of programs that enqueue and of workers.
//
//	server := atlasqueuetest.NewServer(t)
//	client, _ := atlasqueue.NewClient(atlasqueue.WithServers(server.Address))
//
// It keeps the contract's states, fences, outcomes and errors, so client and worker run on it unchanged. What it
// leaves out: LeaseOnce; sessions are lost only by ExpireSessions, whose jobs run again without a backoff; deadlines
// of runs never pass, nothing is pruned, listings are one page, and only names and ids are checked. Jobs that wait for
// their time can be promoted by PromoteScheduled, so that no test need wait for a backoff.
package atlasqueuetest

import (
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// Server is the fake. Its Address is for WithServers.
type Server struct {
	Address string

	stop     func()
	mutex    sync.Mutex
	changed  chan struct{}
	queues   map[string]*pb.Queue
	jobs     map[key]*job
	sessions map[int64]*session
	order    int64
	fences   int64
	lastID   int64
	failures []error
	drop     bool
}

type key struct{ queue, id string }

type job struct {
	*pb.Job
	body *pb.NewJob
	seq  int64
	// How its last lease ended, if a report ended it.
	ended *pb.JobOutcome
}

type session struct {
	id, epoch int64
	terms     *pb.LeaseRequest
	opened    time.Time
	// nil while no stream is open; closed by a newer one.
	stream chan struct{}
	outbox []*pb.LeaseResponse
}

// NewServer starts a fake server on a free port of the loopback interface; it ends with the test.
func NewServer(t testing.TB) *Server {
	t.Helper()
	s, err := Start()
	if err != nil {
		t.Fatalf("atlasqueuetest: %v", err)
	}
	t.Cleanup(s.Stop)
	return s
}

// Start starts a fake server where there is no test that it could end with: in TestMain, an example, a program. Stop
// ends it.
func Start() (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{
		Address: listener.Addr().String(),
		changed: make(chan struct{}),
		queues:  map[string]*pb.Queue{}, jobs: map[key]*job{}, sessions: map[int64]*session{},
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(s.faults))
	pb.RegisterJobServiceServer(server, jobService{Server: s})
	pb.RegisterQueueServiceServer(server, queueService{Server: s})
	pb.RegisterWorkerServiceServer(server, workerService{Server: s})
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	s.stop = func() { server.Stop(); <-served }
	return s, nil
}

// Stop ends the server; calls that run fail.
func (s *Server) Stop() { s.stop() }

// PromoteScheduled makes all scheduled jobs ready, whatever their time, and returns how many.
func (s *Server) PromoteScheduled() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	promoted := 0
	for _, each := range s.jobs {
		if each.GetState() == pb.JobState_JOB_STATE_SCHEDULED {
			s.ready(each)
			promoted++
		}
	}
	s.dispatch()
	return promoted
}

// ExpireSessions loses every session, as if no worker had sent a heartbeat for its visibility timeout; leased
// jobs run again, until the third such crash makes a dead letter. It returns how many were leased.
func (s *Server) ExpireSessions() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	expired := 0
	for _, each := range s.jobs {
		if each.GetState() == pb.JobState_JOB_STATE_LEASED {
			expired++
			s.crashed(each)
		}
	}
	for _, each := range s.sessions {
		// Leases that are lost are not sent any more.
		each.outbox = nil
		if each.stream != nil {
			close(each.stream)
		}
	}
	clear(s.sessions)
	s.dispatch()
	return expired
}

// CloseStreams ends every stream of leases, as a server does that drains; sessions and leases stay.
func (s *Server) CloseStreams() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, each := range s.sessions {
		each.outbox = append(each.outbox, &pb.LeaseResponse{Event: &pb.LeaseResponse_GoAway{GoAway: &pb.GoAway{Reason: "a test closed it"}}})
		if each.stream != nil {
			close(each.stream)
			each.stream = nil
		}
	}
	s.broadcast()
}

// FailNext makes the next unary calls fail with this reason of the contract, DATABASE_UNAVAILABLE say, before
// they do anything.
func (s *Server) FailNext(calls int, reason string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for range calls {
		s.failures = append(s.failures, refusal(codes.Unavailable, reason, "a test wants it so"))
	}
}

// LoseNextAnswer lets the next unary call work, and its answer get lost.
func (s *Server) LoseNextAnswer() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.drop = true
}

// broadcast wakes whoever waits for a change. The mutex is held.
func (s *Server) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func refusal(code codes.Code, reason, message string) error {
	answer, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "atlasqueue"})
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return answer.Err()
}

func invalid(field, bound string) error {
	message := field + " " + bound
	answer, err := status.New(codes.InvalidArgument, message).WithDetails(
		&errdetails.ErrorInfo{Reason: "INVALID_FIELD", Domain: "atlasqueue"},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: bound}}},
	)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return answer.Err()
}

// queue comes into being on first use. The mutex is held.
func (s *Server) queue(name string) *pb.Queue {
	if s.queues[name] == nil {
		s.queues[name] = &pb.Queue{Name: name, Policy: &pb.QueuePolicy{}, CreatedAt: timestamppb.Now()}
	}
	return s.queues[name]
}
