package jobid_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atlasqueue/atlasqueue/clients/go/internal/jobid"
)

const (
	id    = "0199a3f0-7c1e-7b42-9d05-e6f18a2b3c4d"
	nilID = "00000000-0000-0000-0000-000000000000"
)

func TestOnlyWhatIsAUUIDHasItsBytes(t *testing.T) {
	if got := jobid.Parse(id); fmt.Sprintf("%x", got) != strings.ReplaceAll(id, "-", "") || jobid.Parse(strings.ToUpper(id)) != got {
		t.Errorf("%s is %x", id, got)
	}
	for _, text := range []string{"", nilID, id[:35], id + "0", id[:35] + "g", strings.ReplaceAll(id, "-", "0"), "{" + id[2:] + "}", id[:34] + "é"} {
		if got := jobid.Parse(text); got != [jobid.Bytes]byte{} {
			t.Errorf("%q is %x", text, got)
		}
	}
	for at := range id {
		if text := id[:at] + "x" + id[at+1:]; jobid.Parse(text) != [jobid.Bytes]byte{} {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestBytesShowAsTheTextTheyCameFrom(t *testing.T) {
	for _, text := range []string{id, nilID} {
		if got := jobid.Text(jobid.Parse(text)); got != text {
			t.Errorf("%s shows as %s", text, got)
		}
	}
}
