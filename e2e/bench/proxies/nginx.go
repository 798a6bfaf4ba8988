package proxies

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"text/template"

	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// nginxConfig passes everything on as one fixed user. It looks at no token: it
// stands for what passing on alone costs. nginx speaks HTTP/1.1 upstream, and
// nothing else.
var nginxConfig = template.Must(template.New("nginx").Parse(`
daemon off;
pid {{.Dir}}/nginx.pid;
error_log stderr error;
worker_processes {{.Workers}};
worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http {
  access_log off;
  client_body_temp_path {{.Dir}}/body;
  proxy_temp_path {{.Dir}}/proxy;
  fastcgi_temp_path {{.Dir}}/fastcgi;
  uwsgi_temp_path {{.Dir}}/uwsgi;
  scgi_temp_path {{.Dir}}/scgi;
  upstream upstream {
    server {{.Upstream}};
    keepalive 256;
    keepalive_requests 1000000000;
    keepalive_time 24h;
  }
  server {
    listen {{.Address}} ssl http2 backlog=4096;
    ssl_certificate {{.CertFile}};
    ssl_certificate_key {{.KeyFile}};
    ssl_protocols TLSv1.2 TLSv1.3;
    http2_max_concurrent_streams 250;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    keepalive_time 24h;
    location / {
      proxy_pass https://upstream;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_read_timeout 1h;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {{.CAFile}};
      proxy_ssl_name localhost; # nginx compares no addresses
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer {{.Token}}";
      proxy_set_header Impersonate-User "{{.UserPrefix}}nobody-was-asked";
      proxy_set_header Impersonate-Group "{{.GroupPrefix}}any";
    }
  }
}
`))

// Nginx starts nginx.
func (w *World) Nginx(ctx context.Context, name string) (*Proxy, error) {
	path, err := find("nginx")
	if err != nil {
		return nil, err
	}
	dir, address, _, pair, err := w.place(name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = nginxConfig.Execute(&b, struct {
		*World
		Dir, Address, CertFile, KeyFile, CAFile, UserPrefix, GroupPrefix string
	}{w, dir, address, pair.CertFile, pair.KeyFile, w.Authority.CAFile, userPrefix, groupPrefix})
	if err != nil {
		return nil, fmt.Errorf("write the configuration of nginx: %w", err)
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := pki.WriteFile(config, b.Bytes()); err != nil {
		return nil, err
	}
	return w.run(ctx, name, address, proc.Config{Path: path, Args: []string{"-p", dir, "-e", "stderr", "-c", config}, Dir: dir})
}
