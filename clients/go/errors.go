package atlasqueue

import (
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Domain stands in google.rpc.ErrorInfo beside every reason of the contract.
const Domain = "atlasqueue"

// Every error of a server or of the transport is an *Error; errors.Is tells which by these, errors.As gets at its
// reason and violations. They are built from the machine-readable reason, never from the text. When the caller's own
// context has ended a call, errors.Is finds context.Canceled or context.DeadlineExceeded, and the context's cause.
var (
	// ErrInvalidField: a field breaks a bound; Error.Violations names field and bound.
	ErrInvalidField = errors.New("a field breaks a bound")
	// ErrMalformedMessage: the server could not parse the request.
	ErrMalformedMessage = errors.New("malformed message")
	// ErrMessageTooLarge: the message is over the transport's 4 MiB: send less at once.
	ErrMessageTooLarge = errors.New("message too large")
	// ErrJobNotFound: no such job, or it was pruned or purged.
	ErrJobNotFound = errors.New("job not found")
	// ErrQueueNotFound: no such queue.
	ErrQueueNotFound = errors.New("queue not found")
	// ErrJobIDConflict: the id is taken by a job with another body: make a new id.
	ErrJobIDConflict = errors.New("job id conflict")
	// ErrJobIDAmbiguous: the id is in several queues: name the queue.
	ErrJobIDAmbiguous = errors.New("job id ambiguous")
	// ErrJobFinal: the job is succeeded or cancelled, which is final.
	ErrJobFinal = errors.New("job is final")
	// ErrJobDead: the job is a dead letter: redrive or purge it instead.
	ErrJobDead = errors.New("job is dead")
	// ErrTooManyQueues: the server's limit of queues is reached.
	ErrTooManyQueues = errors.New("too many queues")
	// ErrSessionLost: the worker's session is lost for good.
	ErrSessionLost = errors.New("session lost")
	// ErrSessionSuperseded: the worker's session was opened again with a higher epoch.
	ErrSessionSuperseded = errors.New("session superseded")
	// ErrUnavailable: nobody answers, or a server asks to try again later. The three below are kinds of it.
	ErrUnavailable = errors.New("unavailable")
	// ErrDatabaseUnavailable: the server's database does not answer.
	ErrDatabaseUnavailable = fmt.Errorf("%w: the database does not answer", ErrUnavailable)
	// ErrShuttingDown: the server is draining.
	ErrShuttingDown = fmt.Errorf("%w: the server drains", ErrUnavailable)
	// ErrOverloaded: too many calls wait on the server.
	ErrOverloaded = fmt.Errorf("%w: the server is overloaded", ErrUnavailable)
	// ErrDeadlineExceeded: no answer within the timeout; the call may have worked.
	ErrDeadlineExceeded = errors.New("no answer in time")
	// ErrInternal: a bug in the server; its log holds the details.
	ErrInternal = errors.New("internal error")
	// ErrJobDied: the job that was waited for became a dead letter. errors.As to *SettledError has it.
	ErrJobDied = errors.New("the job is a dead letter")
	// ErrJobCancelled: the job that was waited for was cancelled. errors.As to *SettledError has it.
	ErrJobCancelled = errors.New("the job was cancelled")
)

var byReason = map[string]error{
	"INVALID_FIELD":        ErrInvalidField,
	"MALFORMED_MESSAGE":    ErrMalformedMessage,
	"JOB_NOT_FOUND":        ErrJobNotFound,
	"QUEUE_NOT_FOUND":      ErrQueueNotFound,
	"JOB_ID_CONFLICT":      ErrJobIDConflict,
	"JOB_ID_AMBIGUOUS":     ErrJobIDAmbiguous,
	"JOB_FINAL":            ErrJobFinal,
	"JOB_DEAD":             ErrJobDead,
	"TOO_MANY_QUEUES":      ErrTooManyQueues,
	"SESSION_LOST":         ErrSessionLost,
	"SESSION_SUPERSEDED":   ErrSessionSuperseded,
	"DATABASE_UNAVAILABLE": ErrDatabaseUnavailable,
	"SHUTTING_DOWN":        ErrShuttingDown,
	"OVERLOADED":           ErrOverloaded,
	"INTERNAL":             ErrInternal,
}

// For errors that come from the transport, before any server could give a reason. What it says when a connection
// breaks or a server is killed in the middle of a call counts as unavailable: a server's own errors come with a
// reason.
var byCode = map[codes.Code]error{
	codes.Unavailable:       ErrUnavailable,
	codes.Canceled:          ErrUnavailable,
	codes.Unknown:           ErrUnavailable,
	codes.Internal:          ErrUnavailable,
	codes.DeadlineExceeded:  ErrDeadlineExceeded,
	codes.ResourceExhausted: ErrMessageTooLarge,
}

// Violation is one broken bound: the field's path and what it must be.
type Violation struct {
	Field string
	Bound string
}

// Error is what a server or the transport answered instead of a response.
type Error struct {
	// Reason is the contract's, JOB_NOT_FOUND for example; empty when the transport failed.
	Reason string
	// Code is the gRPC status.
	Code codes.Code
	// Message is for people.
	Message string
	// Violations of an INVALID_FIELD.
	Violations []Violation

	kind error
}

// Error is the message, with what it means.
func (e *Error) Error() string {
	if e.kind == nil {
		return fmt.Sprintf("atlasqueue: %s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("atlasqueue: %s: %s", e.kind, e.Message)
}

// Unwrap is the Err… that it is a kind of.
func (e *Error) Unwrap() error { return e.kind }

// GRPCStatus lets status.Code and status.FromError read it.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// SettledError is what Wait returns when the job did not succeed: ErrJobDied or ErrJobCancelled.
type SettledError struct {
	// Job as it ended.
	Job  Job
	kind error
}

// Error says which job and how it ended.
func (e *SettledError) Error() string {
	if e.kind == ErrJobDied {
		return fmt.Sprintf("atlasqueue: job %s is a dead letter: %s", e.Job.JobID, e.Job.DeadLetterReason)
	}
	return fmt.Sprintf("atlasqueue: job %s was cancelled", e.Job.JobID)
}

// Unwrap is ErrJobDied or ErrJobCancelled.
func (e *SettledError) Unwrap() error { return e.kind }

// EnqueueBatchError is what EnqueueBatch returns when some of many jobs were refused; all others are stored.
type EnqueueBatchError struct {
	// Errors by the position of the job.
	Errors map[int]error
	// JobIDs of all jobs, in order.
	JobIDs []string
}

// Error counts the refusals and shows the first.
func (e *EnqueueBatchError) Error() string {
	first := len(e.JobIDs)
	for position := range e.Errors {
		first = min(first, position)
	}
	return fmt.Sprintf("atlasqueue: %d of %d jobs were refused; the first is number %d: %v",
		len(e.Errors), len(e.JobIDs), first, e.Errors[first])
}

// Unwrap lets errors.Is find any refusal.
func (e *EnqueueBatchError) Unwrap() []error {
	all := make([]error, 0, len(e.Errors))
	for _, err := range e.Errors {
		all = append(all, err)
	}
	return all
}

// FromRPC is the *Error that an RPC's failure stands for; nil for nil. For those who call the generated stubs.
func FromRPC(err error) error {
	if err == nil {
		return nil
	}
	if known := (*Error)(nil); errors.As(err, &known) {
		return known
	}
	return fromStatus(status.Convert(err).Proto())
}

func fromStatus(from *spb.Status) *Error {
	failure := &Error{Code: codes.Code(from.GetCode()), Message: from.GetMessage()}
	for _, detail := range status.FromProto(from).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == Domain {
				failure.Reason = detail.GetReason()
				failure.kind = byReason[failure.Reason]
			}
		case *errdetails.BadRequest:
			for _, broken := range detail.GetFieldViolations() {
				failure.Violations = append(failure.Violations, Violation{broken.GetField(), broken.GetDescription()})
			}
		}
	}
	if failure.kind == nil {
		failure.kind = byCode[failure.Code]
	}
	return failure
}

func retryable(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrDeadlineExceeded)
}
