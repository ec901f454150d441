package worker

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/transport"
)

const (
	flushMax    = 5 * time.Second
	tellMax     = 5 * time.Second
	goodbyeMax  = 2 * time.Second
	healthEvery = 250 * time.Millisecond
)

// Worker runs an app's handlers: a session on a list of servers. Make it with New, run it once.
type Worker struct {
	session     *session
	held        *held
	stream      *stream
	heartbeater *heartbeater
	reporter    *reporter
	executor    *executor
	log         *slog.Logger
	grace       time.Duration

	begun      atomic.Bool
	stopOnce   sync.Once
	stopping   chan struct{}
	hurryOnce  sync.Once
	hurry      chan struct{}
	superseded atomic.Bool
}

// Option sets up a Worker.
type Option func(*settings)

type settings struct {
	servers []string
	queues  []string
	slots   int
	name    string
	grace   time.Duration
	tls     *tls.Config
	log     *slog.Logger
	dial    []grpc.DialOption
}

// WithServers names the servers as host:port, each in a string or several with commas; the default is
// ATLASQUEUE_ADDRESS, else 127.0.0.1:7420. When one does not answer, the next one is asked.
func WithServers(addresses ...string) Option {
	return func(s *settings) { s.servers = append(s.servers, addresses...) }
}

// WithSlots sets how many jobs run at once, 1 to 10 000; default 10.
func WithSlots(slots int) Option { return func(s *settings) { s.slots = slots } }

// WithQueues sets which queues it serves; default: those of its handlers.
func WithQueues(queues ...string) Option { return func(s *settings) { s.queues = queues } }

// WithName sets its name for people; default (and for an empty one): host and process id.
func WithName(name string) Option { return func(s *settings) { s.name = cmp.Or(name, defaultName()) } }

// WithGrace sets how long handlers get to finish when it stops; default 30 s.
func WithGrace(grace time.Duration) Option { return func(s *settings) { s.grace = grace } }

// WithTLS connects with TLS; the default is plain text. A nil or empty config trusts the system's authorities.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) { s.tls = cmp.Or(config, &tls.Config{}) }
}

// WithLogger sets where it logs; default (and for nil) slog.Default(). Payloads and results are never logged.
func WithLogger(log *slog.Logger) Option {
	return func(s *settings) { s.log = cmp.Or(log, slog.Default()) }
}

// WithDialOptions adds options of gRPC.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

// New makes a worker; it connects when it is run. The error is about what it was given.
func New(app *App, options ...Option) (*Worker, error) {
	chosen := settings{slots: 10, name: defaultName(), grace: 30 * time.Second, log: slog.Default()}
	for _, option := range options {
		option(&chosen)
	}
	addresses, err := transport.ParseAddresses(chosen.servers...)
	if err != nil {
		return nil, err
	}
	if app == nil || len(app.handlers) == 0 {
		return nil, errors.New("worker: the app has no handlers: register some with Handle")
	}
	if chosen.slots < 1 || chosen.slots > 10_000 {
		return nil, fmt.Errorf("worker: slots must be 1 to 10 000, not %d", chosen.slots)
	}
	if chosen.grace < 0 {
		return nil, fmt.Errorf("worker: grace must be 0 s or more, not %s", chosen.grace)
	}
	if len(chosen.queues) == 0 {
		chosen.queues = app.Queues()
	}
	return assemble(app, chosen, addresses), nil
}

func assemble(app *App, chosen settings, addresses []string) *Worker {
	way := func() servers { return servers{addresses: addresses, tls: chosen.tls, options: chosen.dial} }
	w := &Worker{
		session: newSession(), held: newHeld(), log: chosen.log, grace: chosen.grace,
		stopping: make(chan struct{}), hurry: make(chan struct{}),
	}
	w.reporter = &reporter{
		servers: way(), session: w.session, held: w.held, log: w.log, onAnswer: w.answered,
		changed: make(chan struct{}, 1), emptied: make(chan struct{}, 1),
		worth: max(besideMin, min(besideMax, chosen.slots/4)),
	}
	w.executor = &executor{
		handlers: app.wrapped(), held: w.held, report: w.reporter.report, tell: w.tell, log: w.log,
		idle: make(chan struct{}, 1),
	}
	w.reporter.running = w.executor.running.Load
	w.stream = &stream{
		servers: way(), session: w.session, held: w.held, log: w.log, onJobs: w.executor.start,
		terms: &pb.LeaseRequest{Queues: chosen.queues, Slots: int32(chosen.slots), Worker: chosen.name, Uniform: true},
	}
	w.heartbeater = &heartbeater{
		servers: way(), session: w.session, held: w.held, log: w.log, wake: make(chan struct{}, 1),
		onLost:       w.stream.restart,
		onSuperseded: func() { w.superseded.Store(true); w.drain() }, onReopen: w.stream.reopen,
	}
	w.heartbeater.answered.Store(true)
	return w
}

// Healthy tells whether it can take jobs and keep them: its stream is alive and heartbeats are answered.
func (w *Worker) Healthy() bool { return w.stream.alive() && w.heartbeater.answered.Load() }

// Stop drains and ends Run: no more jobs are taken, handlers finish within the grace, then their contexts end
// with ErrDraining and their jobs are released. Called again, or after Run's context has ended: at once.
func (w *Worker) Stop() {
	if !w.drain() {
		w.hurryOnce.Do(func() { close(w.hurry) })
	}
}

func (w *Worker) drain() (first bool) {
	w.stopOnce.Do(func() { first = true; close(w.stopping) })
	return first
}

// Run works until Stop, or until the context ends, which drains as well: values of the context reach handlers,
// its end does not. It returns nil after a drain, ErrSessionSuperseded when another process took the session
// over, ErrInvalidField (ErrMalformedMessage, of what is not UTF-8) when its name, queues or slots are refused; an
// error at once when it has been run before.
func (w *Worker) Run(ctx context.Context) error {
	if w.begun.Swap(true) {
		return errors.New("worker: a Worker runs once: make another one with New")
	}
	defer context.AfterFunc(ctx, func() { w.drain() })()
	w.stream.base = context.WithoutCancel(ctx)
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	streaming, endStream := context.WithCancel(life)
	defer endStream()
	var parts sync.WaitGroup
	parts.Go(func() { w.heartbeater.run(life) })
	parts.Go(func() { w.reporter.run(life) })
	parts.Go(func() { w.watchHealth(life) })
	streamed := make(chan error, 1)
	go func() { streamed <- w.stream.run(streaming) }()
	var err error
	select {
	case err = <-streamed:
	case <-w.stopping:
		endStream()
		err = <-streamed
	}
	w.finish()
	end()
	parts.Wait()
	if err == nil && w.superseded.Load() {
		err = fmt.Errorf("another process opened this worker's session: %w", atlasqueue.ErrSessionSuperseded)
	}
	return err
}

// finish lets handlers end and reports be answered.
func (w *Worker) finish() {
	w.log.Info("draining", "running", w.executor.running.Load(), "grace", w.grace)
	w.held.noMoreArrive()
	if w.hasSession() {
		w.heartbeater.beatNow()
	}
	grace, cancel := context.WithTimeout(context.Background(), w.grace)
	defer cancel()
	drained := make(chan struct{})
	go func() {
		select {
		case <-w.hurry:
			cancel()
		case <-drained:
		}
	}()
	w.executor.drain(grace)
	close(drained)
	flushing, cancelFlush := context.WithTimeout(context.Background(), flushMax)
	defer cancelFlush()
	if !w.reporter.flush(flushing) {
		jobs, _ := w.held.snapshot()
		w.log.Warn("outcomes_not_reported", "held", len(jobs))
	}
	w.sayGoodbye()
}

// sayGoodbye, so that jobs that the server sent while the stream ended go back now, not when the session is over.
func (w *Worker) sayGoodbye() {
	if !w.hasSession() {
		return
	}
	timer := time.NewTimer(goodbyeMax)
	defer timer.Stop()
	select {
	case <-w.heartbeater.beatNow():
	case <-timer.C:
	}
}

func (w *Worker) hasSession() bool {
	id, _ := w.session.named()
	return id != 0 && !w.superseded.Load()
}

func (w *Worker) watchHealth(ctx context.Context) {
	healthy := false
	for transport.Sleep(ctx, healthEvery) {
		if w.Healthy() == healthy {
			continue
		}
		if healthy = !healthy; healthy {
			w.log.Info("healthy")
		} else {
			w.log.Warn("unhealthy", "stream", w.stream.alive(), "heartbeats", w.heartbeater.answered.Load())
		}
	}
}

func (w *Worker) tell(ctx context.Context) {
	// A handler that was asked to stop still has its checkpoint to tell; only a lost lease has nobody to tell it to.
	timer := time.NewTimer(tellMax)
	defer timer.Stop()
	select {
	case <-w.heartbeater.beatNow():
	case <-timer.C:
		w.log.WarnContext(ctx, "checkpoints_not_told")
	}
}

func (w *Worker) answered(outcome *pb.JobOutcome, result *pb.ReportResult) {
	switch result.GetStatus() {
	case pb.ReportStatus_REPORT_STATUS_APPLIED, pb.ReportStatus_REPORT_STATUS_ALREADY_APPLIED:
	default:
		w.log.Warn("outcome_refused", "queue", outcome.GetQueue(), "job", outcome.GetJobId(), "fence", outcome.GetFence(),
			"status", strings.TrimPrefix(result.GetStatus().String(), "REPORT_STATUS_"))
	}
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// defaultName is host and process, as a name that the contract accepts.
func defaultName() string {
	host, _ := os.Hostname()
	host = strings.Trim(unfit.ReplaceAllString(host, "-"), "._-")
	if host = host[:min(len(host), 100)]; host == "" {
		host = "worker"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}
