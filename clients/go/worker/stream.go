package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/transport"
	"google.golang.org/protobuf/proto"
)

const (
	// A stream without an event for 2.5 pings' time is dead; with pings each 5 s, after 12.5 s.
	pingsMissedHalves = 5
	// An outage is over for this worker at most so long after it is over.
	reopenMax  = 2 * time.Second
	watchEvery = 500 * time.Millisecond
)

// stream brings leased jobs: opened, watched, opened again, on one server after another.
type stream struct {
	servers servers
	terms   *pb.LeaseRequest
	session *session
	held    *held
	log     *slog.Logger
	// Handlers' contexts descend from it.
	base   context.Context
	onJobs func([]*Job)

	heardAt atomic.Int64
	open    atomic.Bool
	wait    time.Duration

	mutex sync.Mutex
	drop  context.CancelFunc
}

// run keeps a stream open until the context ends. An error is for ever: ErrSessionSuperseded when another process
// took the session over, ErrInvalidField or ErrMalformedMessage when what the worker asks for is refused.
func (s *stream) run(ctx context.Context) error {
	defer s.servers.close()
	backoff := transport.Backoff{First: 100 * time.Millisecond, Longest: reopenMax}
	for ctx.Err() == nil {
		s.wait = 0
		began := time.Now()
		opened, err := s.once(ctx)
		if err != nil {
			return err
		}
		if opened {
			backoff.ResetIfLived(time.Since(began))
		} else {
			s.servers.next()
		}
		transport.Sleep(ctx, s.wait+backoff.Next())
	}
	return nil
}

// alive tells whether the stream is open and was heard of late.
func (s *stream) alive() bool {
	return s.open.Load() && s.silent() < s.silenceMax()
}

// reopen drops the stream if it is silent: the server says that the session has none.
func (s *stream) reopen() {
	if _, ping := s.session.intervals(); s.silent() > ping {
		s.dropNow()
	}
}

// restart ends the stream because its session is lost; the next one asks for a new session.
func (s *stream) restart() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.drop != nil {
		s.drop()
	}
}

func (s *stream) dropNow() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.drop == nil {
		return
	}
	if s.open.Swap(false) {
		// One that never opened is passed over anyway. Who takes connections and carries nothing would be chosen
		// again and again.
		s.servers.next()
	}
	s.drop()
}

func (s *stream) silent() time.Duration { return time.Since(time.Unix(0, s.heardAt.Load())) }
func (s *stream) touch()                { s.heardAt.Store(time.Now().UnixNano()) }
func (s *stream) silenceMax() time.Duration {
	_, ping := s.session.intervals()
	return ping * pingsMissedHalves / 2
}

// once is one stream, from opening to end; whether it ever opened.
func (s *stream) once(ctx context.Context) (opened bool, err error) {
	// A new connection for each stream: the one before may be dead without a word.
	s.servers.close()
	client, err := s.servers.client()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s.touch()
	s.setDrop(cancel)
	defer func() {
		s.setDrop(nil)
		s.open.Store(false)
		cancel()
	}()
	go s.watch(ctx)
	request := s.request()
	events, err := client.Lease(ctx, request)
	for err == nil {
		var event *pb.LeaseResponse
		if event, err = events.Recv(); err == nil {
			opened = true
			s.touch()
			s.handle(event)
		}
	}
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return opened, nil
	}
	return opened, s.ended(atlasqueue.FromRPC(err), request.GetSessionId())
}

func (s *stream) setDrop(cancel context.CancelFunc) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.drop = cancel
}

func (s *stream) request() *pb.LeaseRequest {
	request := proto.CloneOf(s.terms)
	if id, epoch := s.session.nextEpoch(); id != 0 {
		request.SessionId, request.Epoch, request.LastFence = id, epoch, s.held.highest()
	}
	return request
}

// watch drops a stream that is silent for too long.
func (s *stream) watch(ctx context.Context) {
	for {
		left := s.silenceMax() - s.silent()
		if left <= 0 {
			s.log.Warn("stream_silent", "server", s.servers.address())
			s.dropNow()
			return
		}
		// The server may name a shorter interval meanwhile.
		if !transport.Sleep(ctx, min(left, watchEvery)) {
			return
		}
	}
}

func (s *stream) handle(response *pb.LeaseResponse) {
	switch event := response.GetEvent().(type) {
	case *pb.LeaseResponse_LeasedJobs:
		jobs, whole := jobsOf(s.base, event.LeasedJobs)
		if !whole {
			s.log.Error("columns_differ_in_length", "server", s.servers.address())
		}
		s.held.add(jobs)
		s.onJobs(jobs)
	case *pb.LeaseResponse_SessionOpened:
		opened := event.SessionOpened
		s.session.openedAs(opened)
		s.open.Store(true)
		s.log.Info("session_opened", "session", opened.GetSessionId(), "epoch", opened.GetEpoch(), "server", opened.GetServerId())
	case *pb.LeaseResponse_CancelRequested:
		for _, lease := range event.CancelRequested.GetJobs() {
			if job := s.held.get(lease.GetFence()); job != nil {
				job.cancel(ErrCancelRequested)
			}
		}
	case *pb.LeaseResponse_GoAway:
		s.wait = event.GoAway.GetReconnectAfter().AsDuration()
		s.log.Info("go_away", "reason", event.GoAway.GetReason(), "server", s.servers.address())
		s.servers.rotate()
	}
}

func (s *stream) ended(err error, id int64) error {
	switch {
	case errors.Is(err, atlasqueue.ErrSessionLost):
		if id == 0 {
			id, _ = s.session.named()
		}
		if s.session.forget(id) {
			s.log.Warn("session_lost", "session", id)
			s.held.loseAll()
		}
	case errors.Is(err, atlasqueue.ErrSessionSuperseded), errors.Is(err, atlasqueue.ErrInvalidField),
		errors.Is(err, atlasqueue.ErrMalformedMessage):
		// What is refused once is refused for ever.
		return err
	default:
		s.log.Warn("stream_ended", "server", s.servers.address(), "error", err)
	}
	return nil
}
