package atlasqueuetest

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

const (
	heartbeatEvery = 100 * time.Millisecond
	pingEvery      = time.Second
	unknownMax     = 10
	crashesMax     = 3
)

type workerService struct {
	pb.UnimplementedWorkerServiceServer
	*Server
}

func leaseOf(each *job) *pb.JobLease {
	return &pb.JobLease{Queue: each.GetQueue(), JobId: each.GetJobId(), Fence: each.GetFence()}
}

// dispatch leases ready jobs to sessions with credit, and wakes whoever waits. The mutex is held.
func (s *Server) dispatch() {
	var waiting []*job
	for _, each := range s.jobs {
		if each.GetState() == pb.JobState_JOB_STATE_READY && !s.queue(each.GetQueue()).GetPaused() {
			waiting = append(waiting, each)
		}
	}
	slices.SortFunc(waiting, func(a, b *job) int {
		return cmp.Or(cmp.Compare(a.GetPriority(), b.GetPriority()), cmp.Compare(a.seq, b.seq))
	})
	leased := map[*session][]*pb.LeasedJob{}
	for _, each := range waiting {
		for _, holder := range s.sessions {
			if holder.stream != nil && slices.Contains(holder.terms.GetQueues(), each.GetQueue()) &&
				s.leasedTo(holder.id) < int(holder.terms.GetSlots()) {
				leased[holder] = append(leased[holder], s.lease(each, holder))
				break
			}
		}
	}
	for holder, jobs := range leased {
		holder.outbox = append(holder.outbox, leasedEvents(jobs, holder.terms.GetUniform())...)
	}
	s.broadcast()
}

func (s *Server) leasedTo(id int64) int {
	count := 0
	for _, each := range s.jobs {
		if each.GetState() == pb.JobState_JOB_STATE_LEASED && each.GetSessionId() == id {
			count++
		}
	}
	return count
}

func (s *Server) lease(each *job, holder *session) *pb.LeasedJob {
	s.fences++
	each.State, each.SessionId, each.Fence = pb.JobState_JOB_STATE_LEASED, holder.id, s.fences
	each.Deliveries++
	each.LeasedAt = timestamppb.Now()
	return &pb.LeasedJob{
		Queue: each.GetQueue(), JobId: each.GetJobId(), Fence: each.GetFence(), Kind: each.GetKind(),
		Payload: each.GetPayload(), Headers: each.GetHeaders(), Priority: each.GetPriority(), Attempt: each.GetAttempt(),
		Crashes: each.GetCrashes(), Deliveries: each.GetDeliveries(), Checkpoint: each.GetCheckpoint(),
		MaxAttempts: s.attemptsMax(each), DeadlineTimeLeft: each.GetDeadline(),
	}
}

func (s workerService) Lease(request *pb.LeaseRequest, stream grpc.ServerStreamingServer[pb.LeaseResponse]) error {
	holder, mine, err := s.open(request)
	if err != nil {
		return err
	}
	defer s.left(holder, mine)
	opened := &pb.SessionOpened{
		SessionId: holder.id, Epoch: holder.epoch, VisibilityTimeout: durationpb.New(3 * heartbeatEvery),
		HeartbeatInterval: durationpb.New(heartbeatEvery), PingInterval: durationpb.New(pingEvery), ServerId: "fake",
	}
	if err := stream.Send(&pb.LeaseResponse{Event: &pb.LeaseResponse_SessionOpened{SessionOpened: opened}}); err != nil {
		return err
	}
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		events, changed, closed := s.take(holder, mine)
		for _, event := range events {
			if err := stream.Send(event); err != nil {
				return err
			}
		}
		if closed {
			return refusal(codes.Unavailable, "SHUTTING_DOWN", "the stream was closed")
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-mine:
		case <-changed:
		case <-ping.C:
			if err := stream.Send(&pb.LeaseResponse{Event: &pb.LeaseResponse_Ping{Ping: &pb.Ping{ServerTime: timestamppb.Now()}}}); err != nil {
				return err
			}
		}
	}
}

// take gives the events that wait for a stream, unless a newer one has them now; and whether the stream was closed.
func (s *Server) take(holder *session, mine chan struct{}) (events []*pb.LeaseResponse, changed chan struct{}, closed bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if holder.stream == nil || holder.stream == mine {
		events, holder.outbox = holder.outbox, nil
	}
	select {
	case <-mine:
		return events, s.changed, true
	default:
		return events, s.changed, false
	}
}

func (s *Server) open(request *pb.LeaseRequest) (*session, chan struct{}, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if request.GetSlots() < 1 || request.GetSlots() > 10_000 {
		return nil, nil, invalid("slots", "must be 1 to 10000")
	}
	if !nameForm.MatchString(request.GetWorker()) {
		return nil, nil, invalid("worker", "must match "+nameForm.String())
	}
	for _, queue := range request.GetQueues() {
		if !nameForm.MatchString(queue) {
			return nil, nil, invalid("queues", "must match "+nameForm.String())
		}
		s.queue(queue)
	}
	holder := s.sessions[request.GetSessionId()]
	switch {
	case request.GetSessionId() == 0:
		s.lastID++
		holder = &session{id: s.lastID, epoch: 1, opened: time.Now()}
		s.sessions[holder.id] = holder
	case holder == nil:
		return nil, nil, refusal(codes.FailedPrecondition, "SESSION_LOST", "the session is lost")
	case request.GetEpoch() <= holder.epoch:
		return nil, nil, refusal(codes.FailedPrecondition, "SESSION_SUPERSEDED", "a higher epoch was opened")
	default:
		holder.epoch = request.GetEpoch()
	}
	if holder.stream != nil {
		close(holder.stream)
	}
	holder.terms, holder.stream, holder.outbox = request, make(chan struct{}), nil
	s.giveBack(holder.id, func(each *job) bool { return each.GetFence() > request.GetLastFence() })
	mine := holder.stream
	s.dispatch()
	return holder, mine, nil
}

// giveBack makes jobs of a session that did not reach its worker ready again.
func (s *Server) giveBack(id int64, lost func(*job) bool) {
	for _, each := range s.jobs {
		if each.GetState() == pb.JobState_JOB_STATE_LEASED && each.GetSessionId() == id && lost(each) {
			s.again(each)
		}
	}
}

func (s *Server) left(holder *session, mine chan struct{}) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if holder.stream == mine {
		holder.stream = nil
	}
}

func (s workerService) Heartbeat(_ context.Context, request *pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	holder := s.sessions[request.GetSessionId()]
	if holder == nil {
		return nil, refusal(codes.FailedPrecondition, "SESSION_LOST", "the session is lost")
	}
	if request.GetEpoch() < holder.epoch {
		return nil, refusal(codes.FailedPrecondition, "SESSION_SUPERSEDED", "a higher epoch was opened")
	}
	response := &pb.HeartbeatResponse{
		Stream: pb.StreamState_STREAM_STATE_LIVE, HeartbeatInterval: durationpb.New(heartbeatEvery),
		TimeLeft: durationpb.New(3 * heartbeatEvery),
	}
	if holder.stream == nil {
		response.Stream = pb.StreamState_STREAM_STATE_REOPEN
	}
	if request.GetLastFence() == math.MaxInt64 {
		// The worker drains: its stream has ended, though that may not have been seen here.
		holder.stream = nil
	}
	held := map[int64]bool{}
	for _, told := range request.GetHeld() {
		held[told.GetFence()] = true
		s.tell(told, response)
	}
	s.giveBack(holder.id, func(each *job) bool {
		return !held[each.GetFence()] && each.GetFence() <= request.GetLastFence()
	})
	s.dispatch()
	return response, nil
}

func (s *Server) tell(told *pb.HeldJob, response *pb.HeartbeatResponse) {
	each := s.jobs[key{told.GetQueue(), told.GetJobId()}]
	if each == nil || each.GetState() != pb.JobState_JOB_STATE_LEASED || each.GetFence() != told.GetFence() {
		lost := &pb.JobLease{Queue: told.GetQueue(), JobId: told.GetJobId(), Fence: told.GetFence()}
		response.Lost = append(response.Lost, lost)
		return
	}
	if told.GetProgress() != nil {
		each.Progress = told.GetProgress()
	}
	if told.Checkpoint != nil {
		each.Checkpoint = told.GetCheckpoint()
	}
	if each.GetCancelRequested() {
		response.Cancel = append(response.Cancel, leaseOf(each))
	}
}

func (s workerService) Report(_ context.Context, request *pb.ReportRequest) (*pb.ReportResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err := checkReport(request); err != nil {
		return nil, err
	}
	response := &pb.ReportResponse{}
	for _, outcome := range request.GetOutcomes() {
		result := &pb.ReportResult{JobId: outcome.GetJobId(), Fence: outcome.GetFence()}
		result.Status, result.State = s.apply(outcome)
		response.Results = append(response.Results, result)
	}
	for _, column := range request.GetCompleted() {
		response.Completed = append(response.Completed, s.complete(column))
	}
	s.dispatch()
	return response, nil
}

func (s *Server) apply(outcome *pb.JobOutcome) (pb.ReportStatus, pb.JobState) {
	each := s.jobs[key{outcome.GetQueue(), outcome.GetJobId()}]
	switch {
	case each == nil:
		return pb.ReportStatus_REPORT_STATUS_NOT_FOUND, 0
	case each.GetState() == pb.JobState_JOB_STATE_LEASED && each.GetFence() == outcome.GetFence():
		s.settle(each, outcome)
		return pb.ReportStatus_REPORT_STATUS_APPLIED, each.GetState()
	case proto.Equal(each.ended, outcome):
		return pb.ReportStatus_REPORT_STATUS_ALREADY_APPLIED, 0
	default:
		return pb.ReportStatus_REPORT_STATUS_STALE, 0
	}
}

func (s *Server) settle(each *job, outcome *pb.JobOutcome) {
	each.ended = outcome
	switch ended := outcome.GetOutcome().(type) {
	case *pb.JobOutcome_Complete:
		s.finish(each, pb.JobState_JOB_STATE_SUCCEEDED, ended.Complete.GetResult())
	case *pb.JobOutcome_Cancel:
		s.finish(each, pb.JobState_JOB_STATE_CANCELLED, nil)
	case *pb.JobOutcome_Fail:
		s.failed(each, pb.FailureCause_FAILURE_CAUSE_FAILED, ended.Fail.GetError())
		delay := s.backoff(each)
		if ended.Fail.GetRetryAfter() != nil {
			delay = ended.Fail.GetRetryAfter().AsDuration()
		}
		s.later(each, delay, each.GetAttempt() >= s.attemptsMax(each), pb.DeadLetterReason_DEAD_LETTER_REASON_ATTEMPTS_SPENT)
	case *pb.JobOutcome_Reject:
		s.failed(each, pb.FailureCause_FAILURE_CAUSE_REJECTED, ended.Reject.GetError())
		s.later(each, 0, true, pb.DeadLetterReason_DEAD_LETTER_REASON_REJECTED)
	case *pb.JobOutcome_Snooze:
		s.later(each, ended.Snooze.GetDelay().AsDuration(), false, 0)
	case *pb.JobOutcome_UnknownKind:
		failure := &pb.Failure{Fence: each.GetFence(), Attempt: each.GetAttempt(), FailedAt: timestamppb.Now(),
			Cause: pb.FailureCause_FAILURE_CAUSE_UNKNOWN_KIND}
		each.Failures = append(each.Failures, failure)
		s.later(each, 30*time.Second, each.GetDeliveries() >= unknownMax, pb.DeadLetterReason_DEAD_LETTER_REASON_UNKNOWN_KIND)
	default:
		s.again(each)
	}
}

// crashed is what becomes of a job whose session is lost.
func (s *Server) crashed(each *job) {
	each.Crashes++
	each.Failures = append(each.Failures, &pb.Failure{Fence: each.GetFence(), Attempt: each.GetAttempt(),
		Cause: pb.FailureCause_FAILURE_CAUSE_EXPIRED, FailedAt: timestamppb.Now()})
	if each.GetCrashes() >= crashesMax && !each.GetCancelRequested() {
		s.bury(each, pb.DeadLetterReason_DEAD_LETTER_REASON_CRASH_LOOP)
		return
	}
	s.again(each)
}

func (s *Server) failed(each *job, cause pb.FailureCause, failure *pb.JobError) {
	each.Attempt++
	each.Failures = append(each.Failures, &pb.Failure{
		Fence: each.GetFence(), Attempt: each.GetAttempt(), Cause: cause, Error: failure, FailedAt: timestamppb.Now(),
	})
}

func (s *Server) later(each *job, delay time.Duration, dead bool, reason pb.DeadLetterReason) {
	switch {
	case each.GetCancelRequested():
		s.finish(each, pb.JobState_JOB_STATE_CANCELLED, nil)
	case dead:
		s.bury(each, reason)
	default:
		s.schedule(each, delay)
	}
}
