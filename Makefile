# The two that matter: `make demo` shows the main job for real, `make test`
# passes every test. Both build what they need; the first run takes minutes.

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
ACTIONLINT  := github.com/rhysd/actionlint/cmd/actionlint@v1.7.7
# Its version stands in e2e/sbom/go.mod.
SBOM_TOOL   := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT      ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
# When the commit was made: the only time that an image and a chart are told.
EPOCH       ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
# Every folder with a go.mod and code; e2e/sbom names a tool alone.
MODULES     := . e2e e2e/zitadel e2e/discovery
LDFLAGS     := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
# kube-apiserver's CEL library brings the types of k8s.io/api, which nothing here
# uses, a parser that runs when a configuration is read, and cel-go itself, which
# is asked once for each token; protobuf registers the types of CEL and writes
# metrics, and YAML is read when files change. Without inlining they are 1.7 MB
# smaller. The Dockerfile has the same.
GCFLAGS     := -gcflags "k8s.io/api/...=-l" -gcflags "github.com/antlr4-go/antlr/...=-l" -gcflags "github.com/google/cel-go/...=-l" -gcflags "google.golang.org/protobuf/...=-l" -gcflags "go.yaml.in/...=-l"
# Nothing of the machine, the folder or the user: the same source, Go and VERSION
# make the same bytes. -buildvcs=false, as a tarball has no history, and a clone does.
BUILD       := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false $(GCFLAGS) -ldflags "$(LDFLAGS)"
# The largest that a stripped binary may be, in bytes: 25 MB.
MAX_BINARY  := 25000000
# What `make dist` makes, where, and for which machines.
DIST        ?= bin/dist
PLATFORMS   ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64
HELM        ?= helm
# What `make image` makes, and of what.
BUILDAH     ?= buildah
IMAGE       ?= localhost/gatehouse:$(VERSION)
IMAGE_PLATFORMS ?= linux/amd64,linux/arm64
GO_IMAGE    ?= docker.io/library/golang:1.26
IMAGE_FLAGS ?=

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## a real API server, an issuer and gatehouse, with a checked tour (ONCE=1 ends after it)
	@cd e2e && $(GO) run ./demo $(if $(ONCE),-once)

.PHONY: build
build: ## build bin/gatehouse: static, stripped, reproducible
	$(BUILD) -o bin/gatehouse ./cmd/gatehouse

.PHONY: dist
dist: ## what a release has: binaries, their SBOMs, the chart, and SHA256SUMS, in bin/dist
	rm -rf $(DIST) && mkdir -p $(DIST)
	@set -e; for platform in $(PLATFORMS); do \
		os=$${platform%/*}; arch=$${platform#*/}; \
		name=gatehouse_$(VERSION)_$${os}_$${arch}; suffix=; if [ $$os = windows ]; then suffix=.exe; fi; \
		echo "== $$name$$suffix"; \
		GOOS=$$os GOARCH=$$arch $(BUILD) -o $(DIST)/$$name$$suffix ./cmd/gatehouse; \
		(cd e2e/sbom && CGO_ENABLED=0 $(GO) run -trimpath $(SBOM_TOOL) bin -json -std -noserial -notimestamp -version $(VERSION) \
			-output $(abspath $(DIST))/$$name.cdx.json $(abspath $(DIST))/$$name$$suffix); \
	done
	cp -r deploy/chart/gatehouse $(DIST)/chart && find $(DIST)/chart -exec touch -d @$(EPOCH) {} +
	$(HELM) package $(DIST)/chart --destination $(DIST) --version $(VERSION:v%=%) --app-version $(VERSION) && rm -r $(DIST)/chart
	cd $(DIST) && sha256sum * > SHA256SUMS

# BUILDPLATFORM, as buildah 1.28 does not say it itself: without it the build stage
# of another platform would be of that platform, too.
.PHONY: image
image: ## an image of the Dockerfile in buildah's store, for IMAGE_PLATFORMS; the same commit makes the same digest
	$(BUILDAH) build --manifest $(IMAGE) --platform $(IMAGE_PLATFORMS) --timestamp $(EPOCH) --identity-label=false \
		--build-arg BUILDPLATFORM=linux/$(shell $(GO) env GOHOSTARCH) \
		--build-arg GO_IMAGE=$(GO_IMAGE) --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) $(IMAGE_FLAGS) .

.PHONY: test
test: tools lint unit size e2e fuzz-wire ## everything: format, vet, staticcheck, unit tests with -race, end to end

.PHONY: lint
lint: ## gofmt, go vet and staticcheck in every module, and actionlint
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt: $$unformatted"; exit 1; fi
	@for module in $(MODULES); do \
		echo "== vet, staticcheck and mod tidy in $$module"; \
		(cd $$module && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./... && $(GO) mod tidy -diff) || exit 1; \
	done
	$(GO) run $(ACTIONLINT) .github/workflows/*.yml

.PHONY: unit
unit: tools ## unit tests, with the race detector
	$(GO) test -race ./...

.PHONY: size
size: build ## the stripped binary stays small
	@size=$$(stat -c %s bin/gatehouse); echo "bin/gatehouse: $$size bytes, $$($(GO) version -m bin/gatehouse | grep -c '	dep	') modules"; \
	if [ $$size -gt $(MAX_BINARY) ]; then echo "larger than $(MAX_BINARY) bytes"; exit 1; fi

.PHONY: e2e
# go test does not see that the binary under test changed, so nothing is cached.
e2e: tools ## the demo, kubectl through gatehouse to a real kube-apiserver, and raw bytes
	$(MAKE) demo ONCE=1
	@mkdir -p bin; rm -f bin/oracle.txt
	cd e2e && ORACLE_REPORT=$(CURDIR)/bin/oracle.txt $(GO) test -count=1 -timeout 40m ./...
	@grep -v divergent: bin/oracle.txt # the counts: go test does not show them

.PHONY: oracle
FOR  ?= 5m
SEED ?= 1
oracle: ## for FOR, from SEED on: generated configurations, claims, certificates, headers
	cd e2e && $(GO) test -count=1 -timeout 24h -parallel 4 -v ./oracle -run TestGenerated -oracle.for $(FOR) -oracle.seed $(SEED)

.PHONY: soak
soak: ## a gatehouse under steady load for FOR, such as 20m: nothing of it may grow
	cd e2e && $(GO) test -count=1 -timeout 24h -v ./faults -run TestFaults/soak -soak $(FOR)

.PHONY: fuzz
FUZZTIME ?= 60s
fuzz: ## each fuzz test for FUZZTIME
	@for target in auth:FuzzBearerToken auth:FuzzNamePolicy auth/tokenfile:FuzzParse auth/oidc:FuzzToken auth/oidc/distributed:FuzzEndpoint auth/oidc/distributed:FuzzFind auth/oidc/entra:FuzzGUID auth/clientcert:FuzzParseCAs auth/clientcert:FuzzParseCRLs auth/tokenreview:FuzzToken auth/tokenreview:FuzzAnswer auth/revocation:FuzzParse auth/scope:FuzzParse auth/session:FuzzAuthenticateToken auth/authconfig:FuzzFlags auth/authconfig:FuzzParse proxy/impersonate:FuzzHeader proxy/impersonate:FuzzWanted proxy/address:FuzzCaller proxy/audit:FuzzRequestURI proxy/serve:FuzzProxyHeader proxy/h2:FuzzFrames proxy/h2server:FuzzFrames proxy/h2server:FuzzConversation proxy/exchange:FuzzForm cmd/migrate:FuzzText cmd/exchange:FuzzRecord cmd/exchange:FuzzAnswer; do \
		echo "== $$target"; \
		$(GO) test ./$${target%%:*} -run '^$$' -fuzz "^$${target##*:}$$" -fuzztime $(FUZZTIME) || exit 1; \
	done

# By number and not by time: at the end of its time Go's fuzzer may be cut off in
# the middle of a run, and call that a failure. Making an input smaller, too, is
# bounded: over the wire it would take the most of the time.
.PHONY: fuzz-wire
fuzz-wire: ## what reads the bytes of callers and API servers, and what writes the identity: about a minute each
	$(GO) test ./proxy/impersonate -run '^$$' -fuzz '^FuzzHeader$$' -fuzztime 500000x -fuzzminimizetime 20x
	$(GO) test ./proxy/impersonate -run '^$$' -fuzz '^FuzzWanted$$' -fuzztime 500000x -fuzzminimizetime 20x
	$(GO) test ./proxy/address -run '^$$' -fuzz '^FuzzCaller$$' -fuzztime 500000x -fuzzminimizetime 20x
	$(GO) test ./proxy/serve -run '^$$' -fuzz '^FuzzProxyHeader$$' -fuzztime 300000x -fuzzminimizetime 20x
	$(GO) test ./proxy/h2 -run '^$$' -fuzz '^FuzzFrames$$' -fuzztime 20000x -fuzzminimizetime 20x
	$(GO) test ./proxy/h2server -run '^$$' -fuzz '^FuzzFrames$$' -fuzztime 20000x -fuzzminimizetime 20x
	$(GO) test ./proxy/h2server -run '^$$' -fuzz '^FuzzConversation$$' -fuzztime 20000x -fuzzminimizetime 20x
	cd e2e && $(GO) test ./rawbytes -run '^$$' -fuzz '^FuzzHeadersOverHTTP1$$' -fuzztime 30000x -fuzzminimizetime 20x
	cd e2e && $(GO) test ./rawbytes -run '^$$' -fuzz '^FuzzHeadersOverHTTP2$$' -fuzztime 30000x -fuzzminimizetime 20x

# On an idle machine, if there is one: what else runs costs precision.
.PHONY: bench
bench: tools build ## gatehouse beside HAProxy and nginx; writes docs/benchmarks.md and docs/scaling.md
	cd e2e && $(GO) run ./bench -docs ../docs

.PHONY: docs
docs: ## generate docs/settings.md, docs/metrics.md, docs/errors.md, docs/dependencies.md, deploy/rbac*.yaml, what the chart has of them, the kustomize base, and what is printed
	$(GO) test ./proxy -run 'TestErrors$$' -update
	$(GO) test ./cmd/gatehouse -run 'TestSettingsReference|TestMetrics$$|TestDeployedRights|TestChartDoors|TestChartMonitoring|TestKubeconfigText|TestMigrateText|TestExchangeKubeconfig|TestDependencies' -update
	$(GO) test ./proxy/exchange -run 'TestErrors$$' -update
	cd e2e && $(GO) test ./chart -run TestKustomize -update

# Tests make certificates with openssl; the certified issuer runs on Node.js; the
# benchmarks compare with HAProxy and nginx, and alerts and dashboard are tested
# with Prometheus, of all of which the daemons are not used; one of the clients
# is Python's. buildah builds the image, and runc runs it.
.PHONY: tools
tools:
	@missing=""; \
	command -v openssl >/dev/null || missing="$$missing openssl"; \
	command -v node >/dev/null && command -v npm >/dev/null || missing="$$missing nodejs npm"; \
	PATH="$$PATH:/usr/sbin"; for daemon in haproxy nginx; do command -v $$daemon >/dev/null || missing="$$missing $$daemon"; done; \
	for program in buildah runc curl jq; do command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	command -v prometheus >/dev/null && command -v promtool >/dev/null || missing="$$missing prometheus"; \
	/usr/bin/python3 -c 'import kubernetes' 2>/dev/null || missing="$$missing python3-kubernetes"; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; apt-get update -q && apt-get install -qy $$missing; fi

.PHONY: clean
clean: ## remove what build made
	rm -rf bin
