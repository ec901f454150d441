package atlasqueue

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/transport"
)

// Client enqueues jobs, reads them, waits for their results; operates queues and dead letters. It may be used by
// many goroutines. Every call is safe to repeat and is repeated while no server answers: the ids of jobs are made
// before they are sent.
type Client struct {
	// Queues operates queues.
	Queues *Queues
	// DeadLetters operates dead letters.
	DeadLetters *DeadLetters

	calls  *calls
	around []EnqueueHook
}

// EnqueueHook is called before jobs are sent, and what it returns once they are stored or refused. The jobs have
// their ids. It may give a job other headers; a map of headers is the caller's or of several jobs, so it must not be
// changed in place. Package atlasqueueotel (clients/go/otel) makes one.
type EnqueueHook func(ctx context.Context, jobs []*NewJob) (context.Context, func(error))

// Option sets up a Client.
type Option func(*settings)

type settings struct {
	servers []string
	calls   calls
	hooks   []EnqueueHook
}

// WithServers names the servers as host:port, each in a string or several with commas; the default is
// ATLASQUEUE_ADDRESS, else 127.0.0.1:7420. When one does not answer, the next one is called.
func WithServers(addresses ...string) Option {
	return func(s *settings) { s.servers = append(s.servers, addresses...) }
}

// WithTLS connects with TLS; the default is plain text. A nil or empty config trusts the system's authorities.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) { s.calls.tls = cmp.Or(config, &tls.Config{}) }
}

// WithTimeout bounds one try of a call, above 0; default 10 s.
func WithTimeout(timeout time.Duration) Option {
	return func(s *settings) { s.calls.timeout = timeout }
}

// WithRetryFor bounds for how long a call is repeated while no server answers; default 30 s, 0 for a single try.
func WithRetryFor(retryFor time.Duration) Option {
	return func(s *settings) { s.calls.retryFor = retryFor }
}

// WithDialOptions adds options of gRPC: interceptors, say.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.calls.options = append(s.calls.options, options...) }
}

// WithEnqueueHook calls the hook around every Enqueue and EnqueueBatch.
func WithEnqueueHook(hook EnqueueHook) Option {
	return func(s *settings) { s.hooks = append(s.hooks, hook) }
}

// NewClient makes a client; it connects when it is used. The error is about what it was given.
func NewClient(options ...Option) (*Client, error) {
	chosen := settings{calls: calls{timeout: 10 * time.Second, retryFor: 30 * time.Second, stubs: map[string]*stubs{}}}
	for _, option := range options {
		option(&chosen)
	}
	addresses, err := transport.ParseAddresses(chosen.servers...)
	if err != nil {
		return nil, err
	}
	made := &chosen.calls
	if made.timeout <= 0 {
		return nil, fmt.Errorf("atlasqueue: the timeout of a call must be above 0, not %s", made.timeout)
	}
	if made.retryFor < 0 {
		return nil, fmt.Errorf("atlasqueue: calls are repeated for 0 s or more, not %s", made.retryFor)
	}
	made.addresses = addresses
	return &Client{&Queues{made}, &DeadLetters{made}, made, chosen.hooks}, nil
}

// Close ends the connections.
func (c *Client) Close() error { return c.calls.close() }

// Enqueue stores one job and returns its id. Stored means committed. ErrJobIDConflict when the id is taken by
// another body, ErrInvalidField.
func (c *Client) Enqueue(ctx context.Context, job NewJob) (string, error) {
	jobs := []NewJob{job}
	ctx, done := c.hooked(ctx, jobs)
	request := &pb.EnqueueRequest{Job: newJobToProto(jobs[0])}
	response, err := call(ctx, c.calls, func(ctx context.Context, s *stubs) (*pb.EnqueueResponse, error) {
		return s.jobs.Enqueue(ctx, request)
	})
	done(err)
	return response.GetJobId(), err
}

// EnqueueBatch stores many jobs, in as many messages as it takes, and returns their ids in order.
// *EnqueueBatchError when some are refused; all others are stored then. Any other error leaves open how many
// are stored: the ids returned with it are those settled so far, empty for jobs that were refused. Set JobID to repeat
// such a call safely.
func (c *Client) EnqueueBatch(ctx context.Context, jobs []NewJob) ([]string, error) {
	// They get ids, and hooks may give them headers.
	jobs = slices.Clone(jobs)
	ctx, done := c.hooked(ctx, jobs)
	ids, err := c.enqueueBatch(ctx, jobs)
	done(err)
	return ids, err
}

func (c *Client) enqueueBatch(ctx context.Context, jobs []NewJob) ([]string, error) {
	setJobIDs(jobs)
	ids := make([]string, 0, len(jobs))
	refused := map[int]error{}
	oneByOne := false
	for len(jobs) > 0 {
		size := nextBatch(jobs)
		m := newMessage(jobs[:size], oneByOne)
		older, err := c.deliver(ctx, m)
		if err != nil {
			return brokenOff(ids, refused, err)
		}
		oneByOne = oneByOne || older
		for at, refusal := range m.refused {
			refused[len(ids)+at] = refusal
		}
		ids = append(ids, m.ids...)
		jobs = jobs[size:]
	}
	if len(refused) > 0 {
		return ids, &EnqueueBatchError{refused, ids}
	}
	return ids, nil
}

// deliver sends a message until all its jobs are settled: once, or twice when the server is older than the uniform form.
func (c *Client) deliver(ctx context.Context, m *message) (older bool, err error) {
	response, err := c.send(ctx, m)
	if err == nil && !m.settle(response) {
		older = true
		if response, err = c.send(ctx, m); err == nil {
			m.settle(response)
		}
	}
	return older, err
}

func (c *Client) send(ctx context.Context, m *message) (*pb.EnqueueBatchResponse, error) {
	request := m.request()
	response, err := call(ctx, c.calls, func(ctx context.Context, s *stubs) (*pb.EnqueueBatchResponse, error) {
		return s.jobs.EnqueueBatch(ctx, request)
	})
	switch {
	case len(m.jobs) == 1 && errors.Is(err, ErrMessageTooLarge):
		// The transport refused it before the server could.
		refusal := &pb.EnqueueResult{JobId: m.jobs[0].JobID, Error: status.Convert(err).Proto()}
		return &pb.EnqueueBatchResponse{Results: []*pb.EnqueueResult{refusal}}, nil
	case len(m.alone) == 0 && errors.Is(err, ErrInvalidField):
		// A server that is older than the uniform form has found no job in it.
		return &pb.EnqueueBatchResponse{}, nil
	}
	return response, err
}

// brokenOff is what a batch returns that an error has ended before all its jobs were settled. Refusals until then are
// not wrapped: an *EnqueueBatchError says that all other jobs are stored.
func brokenOff(ids []string, refused map[int]error, err error) ([]string, error) {
	if len(refused) == 0 {
		return ids, err
	}
	err = fmt.Errorf("%w (before it %v)", err, &EnqueueBatchError{refused, ids})
	for position := range refused {
		ids[position] = ""
	}
	return ids, err
}

func (c *Client) hooked(ctx context.Context, jobs []NewJob) (context.Context, func(error)) {
	if len(c.around) == 0 {
		return ctx, func(error) {}
	}
	setJobIDs(jobs)
	pointers := make([]*NewJob, len(jobs))
	for i := range jobs {
		pointers[i] = &jobs[i]
	}
	after := make([]func(error), len(c.around))
	for i, hook := range c.around {
		ctx, after[i] = hook(ctx, pointers)
	}
	return ctx, func(err error) {
		for _, done := range after {
			done(err)
		}
	}
}

// InQueue names the queue of a job: then one place is looked in, and an id that stands in several queues is no
// longer ambiguous.
func InQueue(queue string) Where { return func(w *where) { w.queue = queue } }

// Where narrows down where a job is looked for.
type Where func(*where)

type where struct{ queue string }

func queueOf(narrowed []Where) string {
	var chosen where
	for _, each := range narrowed {
		each(&chosen)
	}
	return chosen.queue
}

// Get reads a job. ErrJobNotFound, ErrJobIDAmbiguous.
func (c *Client) Get(ctx context.Context, jobID string, narrow ...Where) (Job, error) {
	return getJob(ctx, c.calls, &pb.GetJobRequest{Queue: queueOf(narrow), JobId: jobID})
}

func getJob(ctx context.Context, c *calls, request *pb.GetJobRequest) (Job, error) {
	response, err := call(ctx, c, func(ctx context.Context, s *stubs) (*pb.GetJobResponse, error) {
		return s.jobs.GetJob(ctx, request)
	})
	if err != nil {
		return Job{}, err
	}
	return jobFromProto(response.GetJob()), nil
}

// JobFilter chooses jobs; a zero value chooses all.
type JobFilter struct {
	State         JobState
	Kind          string
	CreatedAfter  time.Time
	CreatedBefore time.Time
}

// List gives a queue's jobs without payloads, page after page. It ends after the first error:
// ErrQueueNotFound, say.
func (c *Client) List(ctx context.Context, queue string, filter JobFilter) iter.Seq2[Job, error] {
	request := &pb.ListJobsRequest{
		Queue: queue, State: pb.JobState(filter.State), Kind: filter.Kind,
		CreatedAfter: toTimestamp(filter.CreatedAfter), CreatedBefore: toTimestamp(filter.CreatedBefore),
	}
	return pages(func() ([]*pb.Job, string, error) {
		response, err := call(ctx, c.calls, func(ctx context.Context, s *stubs) (*pb.ListJobsResponse, error) {
			return s.jobs.ListJobs(ctx, request)
		})
		return response.GetJobs(), response.GetNextPageToken(), err
	}, func(token string) { request.PageToken = token }, jobFromProto)
}

// Cancel cancels a job: Cancelled, or Leased when its worker was asked to stop. ErrJobNotFound, ErrJobFinal,
// ErrJobDead, ErrJobIDAmbiguous.
func (c *Client) Cancel(ctx context.Context, jobID string, narrow ...Where) (JobState, error) {
	request := &pb.CancelJobRequest{Queue: queueOf(narrow), JobId: jobID}
	response, err := call(ctx, c.calls, func(ctx context.Context, s *stubs) (*pb.CancelJobResponse, error) {
		return s.jobs.CancelJob(ctx, request)
	})
	return JobState(response.GetState()), err
}

// CancelledJobs is what CancelMany did, or in a dry run would have done.
type CancelledJobs struct {
	// Cancelled are the ids of jobs that were scheduled or ready.
	Cancelled []string
	// Requested are the ids of leased jobs whose workers are asked to stop.
	Requested []string
}

// CancelMany cancels the jobs of a queue that fit, or in a dry run only tells which those are. The filter's State
// is Scheduled, Ready or Leased, or zero for any of the three; a job that leaves it first is spared. Without
// CreatedBefore jobs that are enqueued meanwhile may be among them. Beside an error (ErrQueueNotFound,
// ErrInvalidField) it returns what is done so far; the same call goes on from there.
func (c *Client) CancelMany(ctx context.Context, queue string, filter JobFilter, dryRun bool) (CancelledJobs, error) {
	request := &pb.CancelJobsRequest{
		Queue: queue, State: pb.JobState(filter.State), Kind: filter.Kind, DryRun: dryRun,
		CreatedAfter: toTimestamp(filter.CreatedAfter), CreatedBefore: toTimestamp(filter.CreatedBefore),
	}
	for done := (CancelledJobs{}); ; {
		response, err := call(ctx, c.calls, func(ctx context.Context, s *stubs) (*pb.CancelJobsResponse, error) {
			return s.jobs.CancelJobs(ctx, request)
		})
		done.Cancelled = append(done.Cancelled, response.GetCancelledJobIds()...)
		done.Requested = append(done.Requested, response.GetRequestedJobIds()...)
		if request.PageToken = response.GetNextPageToken(); err != nil || request.PageToken == "" {
			return done, err
		}
	}
}

// Watch gives the job now, then at each change, until it has settled, and goes on when a server goes away. It
// ends after the first error: ErrJobNotFound, the context's, ErrUnavailable when no server answers for as long
// as calls are repeated.
func (c *Client) Watch(ctx context.Context, jobID string, narrow ...Where) iter.Seq2[Job, error] {
	request := &pb.WatchJobRequest{Queue: queueOf(narrow), JobId: jobID}
	return func(yield func(Job, error) bool) {
		backoff := transport.Backoff{First: 100 * time.Millisecond, Longest: 5 * time.Second}
		giveUpAt := time.Now().Add(c.calls.retryFor)
		for {
			server, err := c.calls.now()
			if err != nil {
				yield(Job{}, err)
				return
			}
			began := time.Now()
			answered := false
			over, err := watchOnce(ctx, server, request, func(job Job) bool {
				answered = true
				return yield(job, nil)
			})
			if over {
				return
			}
			ended := time.Now()
			if answered {
				// A job may stand for long: nobody has answered only since its stream broke.
				giveUpAt = ended.Add(c.calls.retryFor)
				backoff.ResetIfLived(ended.Sub(began))
			}
			if !answered || ctx.Err() == nil {
				c.calls.leaveIfSilent(ctx, server, err)
			}
			switch {
			case ctx.Err() != nil:
				yield(Job{}, stopped(ctx, err))
				return
			case !retryable(err) || !ended.Before(giveUpAt):
				yield(Job{}, err)
				return
			}
			transport.Sleep(ctx, backoff.Next())
		}
	}
}

// watchOnce follows one stream; over when the job has settled or the caller has had enough.
func watchOnce(ctx context.Context, server *stubs, request *pb.WatchJobRequest, yield func(Job) bool) (over bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := server.jobs.WatchJob(ctx, request)
	if err != nil {
		return false, FromRPC(err)
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return false, &Error{Message: "the watch ended before the job had settled", kind: ErrUnavailable}
		}
		if err != nil {
			return false, FromRPC(err)
		}
		job := jobFromProto(response.GetJob())
		if !yield(job) || job.Settled() {
			return true, nil
		}
	}
}

// Wait waits until the job has succeeded and returns it with its result. A *SettledError (ErrJobDied or
// ErrJobCancelled) carries a job that ended otherwise; a context with a deadline ends the wait with
// ErrDeadlineExceeded.
func (c *Client) Wait(ctx context.Context, jobID string, narrow ...Where) (Job, error) {
	var last Job
	for job, err := range c.Watch(ctx, jobID, narrow...) {
		if err != nil {
			return last, fmt.Errorf("wait for job %s: %w", jobID, err)
		}
		last = job
	}
	switch last.State {
	case Dead:
		return last, &SettledError{last, ErrJobDied}
	case Cancelled:
		return last, &SettledError{last, ErrJobCancelled}
	default:
		return last, nil
	}
}

// Workers gives the sessions of workers that live, newest first.
func (c *Client) Workers(ctx context.Context) ([]WorkerSession, error) {
	request := &pb.ListWorkersRequest{}
	var found []WorkerSession
	listed := pages(func() ([]*pb.WorkerSession, string, error) {
		response, err := call(ctx, c.calls, func(ctx context.Context, s *stubs) (*pb.ListWorkersResponse, error) {
			return s.queues.ListWorkers(ctx, request)
		})
		return response.GetWorkers(), response.GetNextPageToken(), err
	}, func(token string) { request.PageToken = token }, workerFromProto)
	for session, err := range listed {
		if err != nil {
			return nil, err
		}
		found = append(found, session)
	}
	return found, nil
}

// Cluster names the servers and the leader.
func (c *Client) Cluster(ctx context.Context) (Cluster, error) {
	response, err := call(ctx, c.calls, func(ctx context.Context, s *stubs) (*pb.GetClusterResponse, error) {
		return s.queues.GetCluster(ctx, &pb.GetClusterRequest{})
	})
	if err != nil {
		return Cluster{}, err
	}
	return clusterFromProto(response), nil
}
