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
	conn    *grpc.ClientConn
}

func (s *servers) client() (pb.WorkerServiceClient, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.conn == nil {
		conn, err := transport.Open(s.addresses[s.current], s.tls, s.options...)
		if err != nil {
			return nil, err
		}
		s.conn = conn
	}
	return pb.NewWorkerServiceClient(s.conn), nil
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
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
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
