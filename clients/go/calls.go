package atlasqueue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/transport"
)

// stubs are those on one connection.
type stubs struct {
	conn   *grpc.ClientConn
	jobs   pb.JobServiceClient
	queues pb.QueueServiceClient
}

// calls on a list of servers: one connection each, the next one when one does not answer.
type calls struct {
	addresses []string
	tls       *tls.Config
	options   []grpc.DialOption
	timeout   time.Duration
	retryFor  time.Duration

	mutex   sync.Mutex
	stubs   map[string]*stubs
	current int
	closed  bool
}

var errClosed = errors.New("atlasqueue: the client is closed")

// now gives the stubs of the server that is called now.
func (c *calls) now() (*stubs, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.closed {
		return nil, errClosed
	}
	address := c.addresses[c.current]
	if known := c.stubs[address]; known != nil {
		return known, nil
	}
	conn, err := transport.Open(address, c.tls, c.options...)
	if err != nil {
		return nil, err
	}
	made := &stubs{conn, pb.NewJobServiceClient(conn), pb.NewQueueServiceClient(conn)}
	c.stubs[address] = made
	return made, nil
}

// leave calls another server than that of `silent` from now on, if one is known. Of several calls that failed
// on one server, the first leaves it; the others follow.
func (c *calls) leave(silent *stubs) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.stubs[c.addresses[c.current]] == silent {
		c.current = (c.current + 1) % len(c.addresses)
	}
}

// leaveIfSilent leaves a server that did not answer; what a caller has given up says nothing of it.
func (c *calls) leaveIfSilent(ctx context.Context, server *stubs, err error) {
	if retryable(err) && !errors.Is(ctx.Err(), context.Canceled) {
		c.leave(server)
	}
}

func (c *calls) close() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.closed = true
	var failures []error
	for _, each := range c.stubs {
		failures = append(failures, each.conn.Close())
	}
	clear(c.stubs)
	return errors.Join(failures...)
}

// call repeats until there is an answer, the context ends or retryFor is over. Only for calls that are safe to
// repeat, which all of this contract are when the ids of jobs are set.
func call[Response any](ctx context.Context, c *calls, try func(context.Context, *stubs) (Response, error)) (Response, error) {
	backoff := transport.Backoff{First: 100 * time.Millisecond, Longest: 5 * time.Second}
	giveUpAt := time.Now().Add(c.retryFor)
	var nothing Response
	for {
		server, err := c.now()
		if err != nil {
			return nothing, err
		}
		response, err := once(ctx, c.timeout, server, try)
		if err == nil {
			return response, nil
		}
		err = FromRPC(err)
		// Also when it is not repeated here: the caller's next call is for the next server.
		c.leaveIfSilent(ctx, server, err)
		switch {
		case ctx.Err() != nil:
			return nothing, stopped(ctx, err)
		case !retryable(err) || !time.Now().Before(giveUpAt):
			return nothing, err
		}
		if !transport.Sleep(ctx, backoff.Next()) {
			return nothing, stopped(ctx, err)
		}
	}
}

func once[Response any](ctx context.Context, timeout time.Duration, server *stubs, try func(context.Context, *stubs) (Response, error)) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return try(ctx, server)
}

// stopped says that the caller's context ended, and what had kept the call from an answer until then. What gRPC says
// of the end of the context itself is not that nobody answered.
func stopped(ctx context.Context, last error) error {
	why := ctx.Err()
	if cause := context.Cause(ctx); cause != why {
		why = fmt.Errorf("%w: %w", why, cause)
	}
	var failure *Error
	if errors.As(FromRPC(last), &failure); failure.Code == status.FromContextError(ctx.Err()).Code() {
		failure = &Error{Code: failure.Code, Message: "the call was given up"}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w: %w", ErrDeadlineExceeded, why, failure)
	}
	return fmt.Errorf("%w: %w", why, failure)
}
