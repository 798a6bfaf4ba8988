package kubelet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// idleTimeout is a kubelet's default.
const idleTimeout = 4 * time.Hour

// onlyAPIServer lets in whose certificate names the API server. TLS has verified
// it.
func (k *Kubelet) onlyAPIServer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name := r.TLS.PeerCertificates[0].Subject.CommonName; name != k.cfg.Client {
			http.Error(w, "this node serves the API server alone", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// handler serves the paths of a kubelet that the API server asks for people.
func (k *Kubelet) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", k.serveExec)
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", k.serveAttach)
	mux.HandleFunc("/portForward/{namespace}/{pod}", k.servePortForward)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.serveLogs)
	return mux
}

func (k *Kubelet) containerOf(w http.ResponseWriter, r *http.Request) *container {
	c, err := k.find(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return nil
	}
	if state := c.state(); state.Waiting != nil {
		http.Error(w, fmt.Sprintf("container %q in pod %q is waiting to start: %s", c.spec.Name, r.PathValue("pod"), state.Waiting.Reason), http.StatusBadRequest)
		return nil
	}
	return c
}

func (k *Kubelet) serveExec(w http.ResponseWriter, r *http.Request) {
	k.serveRemote(w, r, func(w http.ResponseWriter, c inContainer, options *remotecommand.Options) {
		remotecommand.ServeExec(w, r, c, r.PathValue("pod"), "", c.spec.Name, r.Form["command"], options,
			idleTimeout, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
	})
}

func (k *Kubelet) serveAttach(w http.ResponseWriter, r *http.Request) {
	k.serveRemote(w, r, func(w http.ResponseWriter, c inContainer, options *remotecommand.Options) {
		remotecommand.ServeAttach(w, r, c, r.PathValue("pod"), "", c.spec.Name, options,
			idleTimeout, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
	})
}

// serveRemote calls serve for the container that r names, with the streams that it
// asks for.
func (k *Kubelet) serveRemote(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, inContainer, *remotecommand.Options)) {
	c := k.containerOf(w, r)
	if c == nil {
		return
	}
	ctx, w, done := k.session(c.ctx, w, r)
	defer done()
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	serve(w, inContainer{c, ctx}, options)
}

// inContainer is what the streaming library calls. The contexts that it gives
// end with its handlers alone; ctx ends with the connection too.
type inContainer struct {
	*container
	ctx context.Context
}

// ExecInContainer runs one more command beside the container's own. It ends with
// the container, and with the connection.
func (c inContainer) ExecInContainer(_ context.Context, _, _, _ string, command []string, in io.Reader, out, errOut io.WriteCloser,
	tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	if len(command) == 0 {
		return fmt.Errorf("no command")
	}
	t := task{dir: c.dir}
	if c.image != nil {
		c.mu.Lock()
		t = c.inside
		c.mu.Unlock()
	}
	t.command, t.tty, t.in, t.resize = command, tty, in, resize
	if out != nil { // a nil stream must not become an interface that is not nil
		t.out = out
	}
	if errOut != nil {
		t.err = errOut
	}
	return t.run(c.ctx)
}

// AttachContainer joins the container's own command.
func (c inContainer) AttachContainer(_ context.Context, _, _, _ string, in io.Reader, out, _ io.WriteCloser,
	_ bool, resize <-chan remotecommand.TerminalSize,
) error {
	return c.attach(c.ctx, in, out, resize)
}

func (k *Kubelet) servePortForward(w http.ResponseWriter, r *http.Request) {
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, w, done := k.session(k.ctx, w, r)
	defer done()
	portforward.ServePortForward(w, r, toPort{ctx}, r.PathValue("pod"), "", options,
		idleTimeout, remotecommand.DefaultStreamCreationTimeout, portforward.SupportedProtocols)
}

// toPort is what the streaming library calls. ctx ends with the connection.
type toPort struct{ ctx context.Context }

// PortForward connects a stream to a port of this machine, which is the port of
// any pod here. The end of either direction leaves the other open.
func (p toPort) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(p.ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(p.ctx, func() {
		conn.Close()
		if s, ok := stream.(interface{ Reset() error }); ok {
			_ = s.Reset()
		}
	})()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, stream)
		if end := conn.(*net.TCPConn).CloseWrite(); err == nil {
			err = end
		}
		sent <- err
	}()
	if _, err := io.Copy(stream, conn); err != nil {
		return err
	}
	if err := stream.Close(); err != nil { // its half: the library's streams go on reading
		return err
	}
	return <-sent
}

// serveLogs knows `follow` and no other option, and says so.
func (k *Kubelet) serveLogs(w http.ResponseWriter, r *http.Request) {
	c := k.containerOf(w, r)
	if c == nil {
		return
	}
	for name := range r.URL.Query() {
		if name != "follow" {
			http.Error(w, "the stand-in kubelet's logs know no "+strconv.Quote(name), http.StatusBadRequest)
			return
		}
	}
	follow := strings.EqualFold(r.URL.Query().Get("follow"), "true")
	w.WriteHeader(http.StatusOK)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	_ = c.log.copyTo(ctx, flushing{w}, 0, follow) // the reader left
}

// flushing sends each line when it is written.
type flushing struct{ http.ResponseWriter }

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.ResponseWriter.Write(b)
	if err == nil {
		err = http.NewResponseController(f.ResponseWriter).Flush()
	}
	return n, err
}
