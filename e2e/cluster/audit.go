package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// AuditEvents returns what the API server recorded so far, oldest first: who
// asked, whom they impersonated, and what was answered.
func (c *Cluster) AuditEvents() ([]auditv1.Event, error) { return ReadAuditLog(c.files.auditLog) }

// AuditPolicyFile is the policy by which the API server records.
func (c *Cluster) AuditPolicyFile() string { return c.files.auditPolicy }

// ReadAuditLog returns the events in a file of JSON lines, oldest first; none if
// there is no file yet.
func ReadAuditLog(path string) ([]auditv1.Event, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	defer f.Close()
	var events []auditv1.Event
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return events, nil // an unfinished line belongs to the next reading
		}
		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		var event auditv1.Event
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		events = append(events, event)
	}
}
