package worker

import (
	"crypto/tls"
	"sync"

	"google.golang.org/grpc"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/transport"
)

// servers is one part's own way to the servers: the one it talks to now, on a connection that no other part
// shares. A connection that is dead without a word must not take heartbeats with it.
type servers struct {
	addresses []string
	tls       *tls.Config
	options   []grpc.DialOption

	mutex   sync.Mutex
	current int
	link    *link
}

// link is a connection, and how many calls are out on it.
type link struct {
	conn  *grpc.ClientConn
	calls int
	left  bool
}

func (s *servers) client() (pb.WorkerServiceClient, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err := s.connect(); err != nil {
		return nil, err
	}
	return pb.NewWorkerServiceClient(s.link.conn), nil
}

func (s *servers) connect() error {
	if s.link != nil {
		return nil
	}
	conn, err := transport.Open(s.addresses[s.current], s.tls, s.options...)
	if err == nil {
		s.link = &link{conn: conn}
	}
	return err
}

// borrow the connection for one of several calls that are out at once, until it is given back.
func (s *servers) borrow() (*link, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err := s.connect(); err != nil {
		return nil, err
	}
	s.link.calls++
	return s.link, nil
}

func (s *servers) giveBack(used *link) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	used.calls--
	used.closeIfUnused()
}

// leave the connection for one to the next server. Of several calls that failed on it the first leaves it and the
// others follow; what is still out on it may be answered.
func (s *servers) leave(failed *link) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.link != failed {
		return
	}
	s.link = nil
	s.current = (s.current + 1) % len(s.addresses)
	failed.left = true
	failed.closeIfUnused()
}

func (l *link) closeIfUnused() {
	if l.left && l.calls == 0 {
		_ = l.conn.Close()
	}
}

// next server, and a new connection in any case: the one before may be dead without a word.
func (s *servers) next() {
	s.mutex.Lock()
	s.current = (s.current + 1) % len(s.addresses)
	s.mutex.Unlock()
	s.close()
}

func (s *servers) close() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.link != nil {
		_ = s.link.conn.Close()
		s.link = nil
	}
}

func (s *servers) address() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.addresses[s.current]
}

// rotate chooses the next server for the next connection; the one that is open goes on.
func (s *servers) rotate() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.current = (s.current + 1) % len(s.addresses)
}
