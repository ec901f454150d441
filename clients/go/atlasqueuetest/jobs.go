package atlasqueuetest

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

var (
	nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	idForm   = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

const nilID = "00000000-0000-0000-0000-000000000000"

type jobService struct {
	pb.UnimplementedJobServiceServer
	*Server
}

// faults answers a call as FailNext and LoseNextAnswer want it.
func (s *Server) faults(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	s.mutex.Lock()
	var failure error
	if len(s.failures) > 0 {
		failure, s.failures = s.failures[0], s.failures[1:]
	}
	drop := failure == nil && s.drop
	s.drop = s.drop && failure != nil
	s.mutex.Unlock()
	if failure != nil {
		return nil, failure
	}
	response, err := handler(ctx, request)
	if drop {
		return nil, status.Error(codes.Unavailable, "the answer was lost")
	}
	return response, err
}

func (s jobService) Enqueue(_ context.Context, request *pb.EnqueueRequest) (*pb.EnqueueResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	setJobID(request.GetJob())
	if err := s.store(request.GetJob(), "job", "job.job_id"); err != nil {
		return nil, err
	}
	s.dispatch()
	return &pb.EnqueueResponse{Queue: request.GetJob().GetQueue(), JobId: request.GetJob().GetJobId()}, nil
}

// setJobID makes the id of a job that has none, and gives others their canonical form.
func setJobID(body *pb.NewJob) {
	if body.GetJobId() == "" {
		body.JobId = atlasqueue.NewJobID()
	}
	body.JobId = strings.ToLower(body.GetJobId())
}

func checkNames(body *pb.NewJob, path string) error {
	switch {
	case !nameForm.MatchString(body.GetQueue()):
		return invalid(path+".queue", "must match "+nameForm.String())
	case !nameForm.MatchString(body.GetKind()):
		return invalid(path+".kind", "must match "+nameForm.String())
	}
	return nil
}

// store keeps a job that has an id, unless it has it already; path is where it stands in the request, id where its id does.
func (s *Server) store(body *pb.NewJob, path, id string) error {
	if err := checkNames(body, path); err != nil {
		return err
	}
	if !idForm.MatchString(body.GetJobId()) || body.GetJobId() == nilID {
		return invalid(id, "must be a UUID of 36 characters, not all zeros")
	}
	at := key{body.GetQueue(), body.GetJobId()}
	if known := s.jobs[at]; known != nil {
		if !sameBody(known.body, body) {
			return refusal(codes.AlreadyExists, "JOB_ID_CONFLICT", "the id is taken by another body")
		}
		return nil
	}
	s.queue(body.GetQueue())
	made := &job{Job: jobOf(body), body: body}
	s.jobs[at] = made
	if made.GetRunAt() != nil && made.GetRunAt().AsTime().After(time.Now()) {
		s.schedule(made, time.Until(made.GetRunAt().AsTime()))
		made.RunAt = body.GetRunAt()
	} else {
		s.ready(made)
	}
	return nil
}

func jobOf(body *pb.NewJob) *pb.Job {
	made := &pb.Job{
		Queue: body.GetQueue(), JobId: body.GetJobId(), Kind: body.GetKind(), Payload: body.GetPayload(),
		Headers: body.GetHeaders(), Priority: 3, RunAt: body.GetRunAt(), Deadline: body.GetDeadline(),
		RetryPolicy: body.GetRetryPolicy(), CreatedAt: timestamppb.Now(),
	}
	if body.Priority != nil {
		made.Priority = body.GetPriority()
	}
	return made
}

func sameBody(one, other *pb.NewJob) bool {
	return proto.Equal(withoutTrace(one), withoutTrace(other))
}

func withoutTrace(body *pb.NewJob) *pb.NewJob {
	bare := proto.CloneOf(body)
	maps.DeleteFunc(bare.GetHeaders(), func(header, _ string) bool {
		return header == "traceparent" || header == "tracestate" || header == "baggage"
	})
	return bare
}

// ready puts a job at the end of its line. The mutex is held, here and below.
func (s *Server) ready(each *job) {
	s.order++
	each.State, each.seq, each.SessionId, each.LeasedAt = pb.JobState_JOB_STATE_READY, s.order, 0, nil
	each.RunAt = each.body.GetRunAt()
}

func (s *Server) schedule(each *job, delay time.Duration) {
	each.State, each.SessionId, each.LeasedAt = pb.JobState_JOB_STATE_SCHEDULED, 0, nil
	each.RunAt = timestamppb.New(time.Now().Add(delay))
	fence := each.GetFence()
	time.AfterFunc(delay, func() {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		if each.GetState() == pb.JobState_JOB_STATE_SCHEDULED && each.GetFence() == fence {
			s.ready(each)
			s.dispatch()
		}
	})
}

// again runs a job whose lease has ended, unless a cancel was requested.
func (s *Server) again(each *job) {
	if each.GetCancelRequested() {
		s.finish(each, pb.JobState_JOB_STATE_CANCELLED, nil)
		return
	}
	s.ready(each)
}

func (s *Server) finish(each *job, state pb.JobState, result []byte) {
	each.State, each.Result, each.FinishedAt = state, result, timestamppb.Now()
	each.SessionId, each.LeasedAt, each.CancelRequested = 0, nil, false
}

func (s *Server) bury(each *job, reason pb.DeadLetterReason) {
	each.State, each.DeadLetterReason, each.DiedAt = pb.JobState_JOB_STATE_DEAD, reason, timestamppb.Now()
	each.SessionId, each.LeasedAt = 0, nil
}

// backoff as the contract has it: full jitter below an exponential ceiling.
func (s *Server) backoff(each *job) time.Duration {
	first, growth, longest := time.Second, 2.0, time.Hour
	for _, policy := range []*pb.RetryPolicy{s.queue(each.GetQueue()).GetPolicy().GetRetryPolicy(), each.GetRetryPolicy()} {
		if policy.GetInitialBackoff() != nil {
			first = policy.GetInitialBackoff().AsDuration()
		}
		if policy != nil && policy.Multiplier != nil {
			growth = policy.GetMultiplier()
		}
		if policy.GetMaxBackoff() != nil {
			longest = policy.GetMaxBackoff().AsDuration()
		}
	}
	ceiling := float64(first)
	for range each.GetAttempt() - 1 {
		ceiling = min(ceiling*growth, float64(longest))
	}
	return time.Duration(rand.Float64() * min(ceiling, float64(longest)))
}

func (s *Server) attemptsMax(each *job) int32 {
	most := int32(20)
	if policy := s.queue(each.GetQueue()).GetPolicy().GetRetryPolicy(); policy != nil && policy.MaxAttempts != nil {
		most = policy.GetMaxAttempts()
	}
	if policy := each.GetRetryPolicy(); policy != nil && policy.MaxAttempts != nil {
		most = policy.GetMaxAttempts()
	}
	return most
}

func (s *Server) find(queue, id string) (*job, error) {
	var found *job
	for at, each := range s.jobs {
		if at.id != strings.ToLower(id) || (queue != "" && at.queue != queue) {
			continue
		}
		if found != nil {
			return nil, refusal(codes.FailedPrecondition, "JOB_ID_AMBIGUOUS", "the id stands in several queues: name the queue")
		}
		found = each
	}
	if found == nil {
		return nil, refusal(codes.NotFound, "JOB_NOT_FOUND", "no such job: "+id)
	}
	return found, nil
}

func (s jobService) GetJob(_ context.Context, request *pb.GetJobRequest) (*pb.GetJobResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found, err := s.find(request.GetQueue(), request.GetJobId())
	if err != nil {
		return nil, err
	}
	return &pb.GetJobResponse{Job: proto.CloneOf(found.Job)}, nil
}

func (s jobService) ListJobs(_ context.Context, request *pb.ListJobsRequest) (*pb.ListJobsResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.queues[request.GetQueue()] == nil {
		return nil, refusal(codes.NotFound, "QUEUE_NOT_FOUND", "no such queue: "+request.GetQueue())
	}
	return &pb.ListJobsResponse{Jobs: s.bare(request.GetQueue(), func(each *job) bool { return wanted(each, request) })}, nil
}

// jobFilter is what chooses jobs in a request.
type jobFilter interface {
	GetState() pb.JobState
	GetKind() string
	GetCreatedAfter() *timestamppb.Timestamp
	GetCreatedBefore() *timestamppb.Timestamp
}

func wanted(each *job, filter jobFilter) bool {
	made := each.GetCreatedAt().AsTime()
	return (filter.GetState() == 0 || filter.GetState() == each.GetState()) &&
		(filter.GetKind() == "" || filter.GetKind() == each.GetKind()) &&
		(filter.GetCreatedAfter() == nil || !made.Before(filter.GetCreatedAfter().AsTime())) &&
		(filter.GetCreatedBefore() == nil || made.Before(filter.GetCreatedBefore().AsTime()))
}

// bare lists jobs by id as listings show them.
func (s *Server) bare(queue string, fits func(*job) bool) []*pb.Job {
	var found []*pb.Job
	for at, each := range s.jobs {
		if at.queue == queue && fits(each) {
			shown := proto.CloneOf(each.Job)
			shown.Payload, shown.Result, shown.Checkpoint, shown.Failures = nil, nil, nil, nil
			found = append(found, shown)
		}
	}
	slices.SortFunc(found, func(a, b *pb.Job) int { return cmp.Compare(a.GetJobId(), b.GetJobId()) })
	return found
}

func (s jobService) CancelJob(_ context.Context, request *pb.CancelJobRequest) (*pb.CancelJobResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found, err := s.find(request.GetQueue(), request.GetJobId())
	if err != nil {
		return nil, err
	}
	switch found.GetState() {
	case pb.JobState_JOB_STATE_DEAD:
		return nil, refusal(codes.FailedPrecondition, "JOB_DEAD", "a dead letter: redrive or purge it")
	case pb.JobState_JOB_STATE_SUCCEEDED, pb.JobState_JOB_STATE_CANCELLED:
		return nil, refusal(codes.FailedPrecondition, "JOB_FINAL", "the job is "+found.GetState().String())
	}
	s.cancel(found)
	s.broadcast()
	return &pb.CancelJobResponse{State: found.GetState()}, nil
}

// cancel cancels a job that waits, and asks the worker of one that runs.
func (s *Server) cancel(each *job) {
	if each.GetState() != pb.JobState_JOB_STATE_LEASED {
		s.finish(each, pb.JobState_JOB_STATE_CANCELLED, nil)
		return
	}
	each.CancelRequested = true
	if holder := s.sessions[each.GetSessionId()]; holder != nil {
		cancel := &pb.CancelRequested{Jobs: []*pb.JobLease{leaseOf(each)}}
		holder.outbox = append(holder.outbox, &pb.LeaseResponse{Event: &pb.LeaseResponse_CancelRequested{CancelRequested: cancel}})
	}
}

func cancellable(state pb.JobState) bool {
	return state == pb.JobState_JOB_STATE_SCHEDULED || state == pb.JobState_JOB_STATE_READY || state == pb.JobState_JOB_STATE_LEASED
}

func (s jobService) CancelJobs(_ context.Context, request *pb.CancelJobsRequest) (*pb.CancelJobsResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if request.GetState() != 0 && !cancellable(request.GetState()) {
		return nil, invalid("state", "must be SCHEDULED, READY or LEASED")
	}
	if s.queues[request.GetQueue()] == nil {
		return nil, refusal(codes.NotFound, "QUEUE_NOT_FOUND", "no such queue: "+request.GetQueue())
	}
	response := &pb.CancelJobsResponse{}
	for _, shown := range s.bare(request.GetQueue(), func(each *job) bool {
		return wanted(each, request) && cancellable(each.GetState()) && !each.GetCancelRequested()
	}) {
		if shown.GetState() == pb.JobState_JOB_STATE_LEASED {
			response.RequestedJobIds = append(response.RequestedJobIds, shown.GetJobId())
		} else {
			response.CancelledJobIds = append(response.CancelledJobIds, shown.GetJobId())
		}
		if !request.GetDryRun() {
			s.cancel(s.jobs[key{request.GetQueue(), shown.GetJobId()}])
		}
	}
	s.broadcast()
	return response, nil
}

func (s jobService) WatchJob(request *pb.WatchJobRequest, stream grpc.ServerStreamingServer[pb.WatchJobResponse]) error {
	var last *pb.Job
	for {
		s.mutex.Lock()
		found, err := s.find(request.GetQueue(), request.GetJobId())
		changed := s.changed
		var now *pb.Job
		if err == nil {
			now = proto.CloneOf(found.Job)
			now.Payload = nil
		}
		s.mutex.Unlock()
		if err != nil {
			return err
		}
		if last == nil || !proto.Equal(last, now) {
			if err := stream.Send(&pb.WatchJobResponse{Job: now}); err != nil {
				return err
			}
		}
		if last = now; now.GetFinishedAt() != nil || now.GetState() == pb.JobState_JOB_STATE_DEAD {
			return nil
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-changed:
		}
	}
}
