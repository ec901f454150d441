package worker

import (
	"sync"
	"time"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// session tells which one the worker's is, its epoch and its clocks. Shared by stream and heartbeats. Id 0 until
// the first stream is open; the epoch rises before each stream is asked for.
type session struct {
	mutex     sync.Mutex
	id        int64
	epoch     int64
	heartbeat time.Duration
	ping      time.Duration
	// Closed while there is a session.
	opened chan struct{}
}

func newSession() *session {
	return &session{heartbeat: 10 * time.Second, ping: 5 * time.Second, opened: make(chan struct{})}
}

// nextEpoch gives what to ask for the next stream with.
func (s *session) nextEpoch() (id, epoch int64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.epoch++
	return s.id, s.epoch
}

// openedAs takes over the name and the clocks that the server has given.
func (s *session) openedAs(opened *pb.SessionOpened) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	wasOpen := s.id != 0
	s.id, s.epoch = opened.GetSessionId(), opened.GetEpoch()
	s.heartbeat = positive(opened.GetHeartbeatInterval().AsDuration(), s.heartbeat)
	s.ping = positive(opened.GetPingInterval().AsDuration(), s.ping)
	if !wasOpen {
		close(s.opened)
	}
}

func positive(given, otherwise time.Duration) time.Duration {
	if given > 0 {
		return given
	}
	return otherwise
}

func (s *session) named() (id, epoch int64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.id, s.epoch
}

// isOpen is closed while there is a session.
func (s *session) isOpen() <-chan struct{} {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.opened
}

func (s *session) intervals() (heartbeat, ping time.Duration) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.heartbeat, s.ping
}

func (s *session) setHeartbeat(interval time.Duration) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.heartbeat = positive(interval, s.heartbeat)
}

// forget a session that is lost: the next stream asks for a new one. False if another is on already.
func (s *session) forget(id int64) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if id == 0 || id != s.id {
		return false
	}
	s.id, s.epoch = 0, 0
	s.opened = make(chan struct{})
	return true
}
