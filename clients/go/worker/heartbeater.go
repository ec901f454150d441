package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/transport"
)

const (
	// A heartbeat without an answer is sent again, to another server if there is one, long before the session's
	// time is over.
	heartbeatTimeoutMin = time.Second
	heartbeatTimeoutMax = 5 * time.Second
	// So often a server may answer that it cannot, before another one is asked.
	refusalsMax = 2
)

// heartbeater keeps the session alive, in a goroutine and on a connection of its own.
type heartbeater struct {
	servers      servers
	session      *session
	held         *held
	log          *slog.Logger
	onLost       func()
	onSuperseded func()
	onReopen     func()

	answered atomic.Bool
	wake     chan struct{}
	mutex    sync.Mutex
	asked    []chan<- struct{}
	refused  bool
	refusals int
}

// beatNow sends a heartbeat at once; the channel is closed when one was answered.
func (h *heartbeater) beatNow() <-chan struct{} {
	done := make(chan struct{})
	h.mutex.Lock()
	h.asked = append(h.asked, done)
	h.mutex.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return done
}

func (h *heartbeater) run(ctx context.Context) {
	defer h.servers.close()
	backoff := transport.Backoff{First: 200 * time.Millisecond, Longest: 2 * time.Second}
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.session.isOpen():
		}
		asked := h.takeAsked()
		answered := h.answers(ctx)
		if ctx.Err() != nil {
			return
		}
		h.answered.Store(answered)
		interval, _ := h.session.intervals()
		if answered {
			backoff.Reset()
			for _, done := range asked {
				close(done)
			}
			h.wait(ctx, interval)
			continue
		}
		h.mutex.Lock()
		h.asked = append(asked, h.asked...)
		h.mutex.Unlock()
		h.held.setUncertain(true)
		h.moveOn()
		transport.Sleep(ctx, min(interval, 50*time.Millisecond+backoff.Next()))
	}
}

func (h *heartbeater) wait(ctx context.Context, interval time.Duration) {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-h.wake:
	case <-timer.C:
	}
}

func (h *heartbeater) takeAsked() []chan<- struct{} {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	asked := h.asked
	h.asked = nil
	return asked
}

// moveOn to another server, unless this one only said that it cannot: it is there, and what it lacks the others
// may lack too.
func (h *heartbeater) moveOn() {
	if !h.refused {
		h.refusals = 0
		h.servers.next()
		return
	}
	h.refusals++
	if h.refusals%refusalsMax == 0 {
		h.servers.next()
	}
}

// answers heartbeats until all that was told has gone; false when no server has answered.
func (h *heartbeater) answers(ctx context.Context) bool {
	for {
		answered, more := h.beat(ctx)
		if !answered || !more || ctx.Err() != nil {
			return answered
		}
	}
}

func (h *heartbeater) beat(ctx context.Context) (answered, more bool) {
	id, epoch := h.session.named()
	if id == 0 {
		return true, false
	}
	jobs, lastFence := h.held.snapshot()
	list, taken, more := listed(jobs)
	request := &pb.HeartbeatRequest{SessionId: id, Epoch: epoch, Held: list, LastFence: lastFence}
	interval, _ := h.session.intervals()
	ctx, cancel := context.WithTimeout(ctx, min(max(heartbeatTimeoutMin, interval), heartbeatTimeoutMax))
	defer cancel()
	response, err := h.send(ctx, request)
	if err == nil {
		h.held.setUncertain(false)
		h.take(response)
		return true, more
	}
	// What the server finds wrong with it, it would find wrong again.
	if !errors.Is(err, atlasqueue.ErrInvalidField) {
		for job, waiting := range taken {
			job.giveBackTold(waiting)
		}
	}
	return h.failed(ctx, err, id, epoch), false
}

func (h *heartbeater) send(ctx context.Context, request *pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
	client, err := h.servers.client()
	if err != nil {
		return nil, err
	}
	response, err := client.Heartbeat(ctx, request)
	return response, atlasqueue.FromRPC(err)
}

func (h *heartbeater) failed(ctx context.Context, err error, id, epoch int64) bool {
	h.refused = errors.Is(err, atlasqueue.ErrDatabaseUnavailable) || errors.Is(err, atlasqueue.ErrOverloaded)
	switch {
	case errors.Is(err, atlasqueue.ErrSessionLost):
		if h.session.forget(id) {
			h.log.WarnContext(ctx, "session_lost", "session", id)
			h.held.loseAll()
			h.onLost()
		}
		return true
	case errors.Is(err, atlasqueue.ErrSessionSuperseded):
		// An answer to a heartbeat that a newer stream of our own has overtaken means nothing.
		if nowID, nowEpoch := h.session.named(); nowID == id && nowEpoch == epoch {
			h.log.ErrorContext(ctx, "session_superseded", "session", id, "epoch", epoch)
			h.onSuperseded()
		}
		return true
	case !errors.Is(ctx.Err(), context.Canceled):
		h.log.WarnContext(ctx, "heartbeat_failed", "server", h.servers.address(), "error", err)
	}
	return false
}

func (h *heartbeater) take(response *pb.HeartbeatResponse) {
	for _, lease := range response.GetLost() {
		if h.held.lose(lease.GetFence()) != nil {
			h.log.Warn("lease_lost", "queue", lease.GetQueue(), "job", lease.GetJobId(), "fence", lease.GetFence())
		}
	}
	for _, lease := range response.GetCancel() {
		if job := h.held.get(lease.GetFence()); job != nil {
			job.cancel(ErrCancelRequested)
		}
	}
	h.session.setHeartbeat(response.GetHeartbeatInterval().AsDuration())
	if response.GetStream() == pb.StreamState_STREAM_STATE_REOPEN {
		h.onReopen()
	}
}
