package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/kube-gatehouse/gatehouse/cmd/reload"
	"github.com/kube-gatehouse/gatehouse/proxy/audit"
)

// auditFlush is how long the last audit events may take to be written.
const auditFlush = 5 * time.Second

// checkAudit judges the settings of the audit log.
func (s *settings) checkAudit(f *faults) {
	switch {
	case s.AuditPolicyFile != "" && s.AuditLogPath == "":
		f.add("AUDIT_LOG_PATH", "is required with GATEHOUSE_AUDIT_POLICY_FILE: without it nothing is recorded (- is standard output)")
	case s.AuditPolicyFile == "" && s.AuditLogPath != "":
		f.add("AUDIT_POLICY_FILE", "is required with GATEHOUSE_AUDIT_LOG_PATH: it says what is recorded")
	}
	if s.AuditLogPath == "" || s.AuditLogPath == audit.Stdout {
		return
	}
	// The file itself is made when gatehouse serves.
	if at, err := os.Stat(s.AuditLogPath); err == nil && at.IsDir() {
		f.add("AUDIT_LOG_PATH", "%s is a directory", s.AuditLogPath)
	}
	if _, err := os.Stat(filepath.Dir(s.AuditLogPath)); err != nil {
		f.add("AUDIT_LOG_PATH", "%w", err)
	}
}

// addAudit makes what records requests, if the settings ask for it.
func (p *parts) addAudit(f *faults) {
	s := p.settings
	if s.AuditPolicyFile == "" {
		return
	}
	trail, err := audit.New(audit.Config{Path: s.AuditLogPath, Metrics: p.metrics, Log: p.log})
	if err != nil {
		f.add("AUDIT_LOG_PATH", "%w", err)
		return
	}
	p.audit = trail
	f.addAll("AUDIT_POLICY_FILE", p.watcher.Add(reload.Source{Name: "audit_policy", Files: []string{s.AuditPolicyFile}, Load: p.loadAuditPolicy}))
}

func (p *parts) loadAuditPolicy() ([]string, error) {
	file := p.settings.AuditPolicyFile
	content, err := os.ReadFile(file)
	if err != nil {
		return []string{file}, err
	}
	policy, err := audit.Parse(content)
	if err != nil {
		return []string{file}, prefixed(file, err)
	}
	p.warn("audit_policy", policy.Warnings())
	p.audit.SetPolicy(policy)
	p.log.Info("audit policy loaded", "file", file, "rules", policy.Len())
	return []string{file}, nil
}

// startAudit begins to write what is recorded, and returns what ends that: it
// waits until all of it is written.
func (p *parts) startAudit(ctx context.Context, stdout io.Writer) (end func(), err error) {
	if p.audit == nil {
		return func() {}, nil
	}
	if err := p.audit.Open(stdout); err != nil {
		return nil, fmt.Errorf("%sAUDIT_LOG_PATH: %w", envPrefix, err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.audit.Run(ctx)
	}()
	return func() {
		cancel()
		select {
		case <-done:
		case <-time.After(auditFlush):
			p.log.Error("the last audit events could not be written in time", "limit", auditFlush.String())
		}
	}, nil
}
