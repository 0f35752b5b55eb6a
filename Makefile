# make without a target prints the targets. CI runs `make verify`.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

K8S_VERSION := v1.36.3
K8S_LDFLAGS := -s -w -X k8s.io/component-base/version.gitVersion=$(K8S_VERSION) \
	-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36
IMAGES      := bin/images/pause.tar bin/images/go-ok.tar bin/images/peer.tar
MODULES     := . docs/picture test/cluster tools
FUZZTIME    ?= 10s
VULNDB      ?= https://vuln.go.dev
BENCHFLAGS  ?= -out docs/benchmarks.md

# With KUBECONFIG on the command line (make e2e KUBECONFIG=FILE), the tests use
# that cluster instead of starting one.
CLUSTER_KUBECONFIG := /var/cache/kubeshore-cluster/kubeconfig
ifeq ($(origin KUBECONFIG),command line)
E2E_KUBECONFIG := $(abspath $(KUBECONFIG))
E2E_KUBECTL    := kubectl
E2E_CLUSTER    :=
else
E2E_KUBECONFIG := $(CLUSTER_KUBECONFIG)
E2E_KUBECTL    := $(CURDIR)/bin/kubectl
E2E_CLUSTER    := cluster
endif

.PHONY: help
help: ## print the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/kubeshore, and bin/kubeshore-root, the part that runs as root
	go build -buildvcs=auto -trimpath -ldflags '-s -w' -o bin/kubeshore ./cmd/kubeshore
	CGO_ENABLED=0 go build -buildvcs=auto -trimpath -ldflags '-s -w' -o bin/kubeshore-root ./cmd/kubeshore-root

.PHONY: install
install: build ## install both programs to /usr/local/bin, where sudo finds them (DESTDIR=DIR to package them)
	$(if $(DESTDIR),,$(if $(filter-out 0,$(shell id -u)),sudo)) install -D -m 755 -t $(DESTDIR)/usr/local/bin bin/kubeshore bin/kubeshore-root

.PHONY: demo
demo: build cluster ## start a test cluster, forward the sample application and send requests to it
	bash test/sample/demo.sh $(CLUSTER_KUBECONFIG)

.PHONY: test
test: unit e2e ## run every test

# The race detector needs cgo.
.PHONY: cc
cc:
	@command -v gcc cc clang >/dev/null || { apt-get update -q && apt-get install -q -y --no-install-recommends gcc libc6-dev; } || \
		{ echo "the tests need a C compiler: install gcc" >&2; exit 1; }

.PHONY: unit
unit: cc ## run the tests that need no cluster
	go test -race -shuffle=on ./...
	go test -C test/cluster -race -shuffle=on .
	go test -C docs/picture -race -shuffle=on .

# The tests start kubeshore through the real sudo.
.PHONY: sudo
sudo:
	@{ command -v sudo && command -v useradd && command -v ps && command -v setpriv; } >/dev/null || \
		{ apt-get update -q && apt-get install -q -y --no-install-recommends sudo passwd procps util-linux; } || \
		{ echo "the tests need sudo, useradd, ps and setpriv: install them" >&2; exit 1; }

.PHONY: clients
clients:
	@{ command -v psql && command -v redis-cli && command -v skopeo && command -v curl; } >/dev/null || \
		{ apt-get update -q && apt-get install -q -y --no-install-recommends postgresql-client redis-tools skopeo curl; } || \
		{ echo "the tests need psql, redis-cli, skopeo and curl: install them" >&2; exit 1; }

# The cluster of the tests also has an image with the clients' servers.
.PHONY: e2e
e2e: IMAGES += bin/images/servers.tar
e2e: cc sudo clients build $(E2E_CLUSTER) ## run the tests that need a cluster (KUBECONFIG=FILE for an existing one)
	KUBECONFIG=$(E2E_KUBECONFIG) KUBECTL=$(E2E_KUBECTL) go test -race -shuffle=on -count=1 -timeout=20m -tags=e2e ./test/e2e

.PHONY: bench
bench: build $(E2E_CLUSTER) ## benchmark kubeshore and kubectl port-forward, write docs/benchmarks.md and docs/scale.md (BENCHFLAGS=-quick for a short check)
	go build -trimpath -o bin/bench ./bench
	bin/bench -kubeconfig $(E2E_KUBECONFIG) -kubectl $(E2E_KUBECTL) -kubeshore bin/kubeshore $(BENCHFLAGS)
	bin/bench -scale -kubeconfig $(E2E_KUBECONFIG) -kubectl $(E2E_KUBECTL) -kubeshore bin/kubeshore $(BENCHFLAGS)

.PHONY: docs
docs: ## write the pages that are generated from the code
	go test ./internal/project -run '^TestSchema$$' -update
	go test ./internal/cli -run '^TestConfigurationPage$$' -update
	go test ./internal/controlserver -run '^(TestOpenAPI|TestStateTable)$$' -update

.PHONY: picture
picture: build $(E2E_CLUSTER) ## record a session with the sample application, draw docs/kubeshore.svg
	go build -C docs/picture -trimpath -o ../../bin/picture .
	$(E2E_KUBECTL) --kubeconfig=$(E2E_KUBECONFIG) apply -f test/sample/sample.yaml
	$(E2E_KUBECTL) --kubeconfig=$(E2E_KUBECONFIG) --namespace=shop rollout status deployment/go-ok --timeout=120s
	$(E2E_KUBECTL) --kubeconfig=$(E2E_KUBECONFIG) --namespace=data rollout status statefulset/db --timeout=120s
	bin/picture $(E2E_KUBECONFIG)

.PHONY: fuzz
fuzz: ## fuzz each fuzz test for FUZZTIME
	grep -rl '^func Fuzz' --include='*_test.go' pkg internal | while read -r file; do \
		sed -n 's/^func \(Fuzz[A-Za-z]*\)(.*/\1/p' "$$file" | while read -r name; do \
			go test -run='^$$' -fuzz="^$$name\$$" -fuzztime=$(FUZZTIME) "./$$(dirname "$$file")"; \
		done; \
	done

.PHONY: cover
cover: ## print the coverage of the tests that need no cluster
	go test -coverprofile=coverage.out ./...
	go tool cover -func=coverage.out | tail -n 1

.PHONY: verify
verify: lint vuln test ## run lint, the vulnerability check and every test, like CI

.PHONY: lint
lint: bin/golangci-lint ## check formatting, vet on three systems, linters, import rules and tidy modules
	bin/golangci-lint fmt --diff ./...
	for os in linux darwin windows; do GOOS=$$os go vet -tags=e2e ./...; GOOS=$$os go vet -C test/cluster . ./pause; GOOS=$$os go vet -C docs/picture .; done
	bin/golangci-lint run ./...
	cd test/cluster && ../../bin/golangci-lint run . ./pause
	cd docs/picture && ../../bin/golangci-lint run .
	for module in $(MODULES); do (cd $$module && go mod tidy -diff); done

# govulncheck exits with 3 if the program calls vulnerable functions. The text is that
# of net/http for a server that can't be reached; all other errors fail.
.PHONY: vuln
vuln: bin/govulncheck ## check the program and its modules for known vulnerabilities (VULNDB=URL for a mirror of the database)
	@output=$$(bin/govulncheck -db $(VULNDB) ./... 2>&1) && status=0 || status=$$?; \
	case "$$status $$output" in \
	(1*"fetching vulnerabilities: Get "*) echo "vuln: SKIPPED: the vulnerability database can't be reached: $${output##*fetching vulnerabilities: }" ;; \
	(*) echo "$$output"; exit $$status ;; \
	esac

.PHONY: fmt
fmt: bin/golangci-lint ## format the code
	bin/golangci-lint fmt ./...

.PHONY: cluster
cluster: bin/cluster ## start a real one-node Kubernetes cluster on this machine, or reuse it
	@bin/cluster check
	@$(MAKE) --no-print-directory bin/kubernetes bin/kubectl $(IMAGES)
	@bin/cluster up

.PHONY: cluster-down
cluster-down: bin/cluster ## stop the cluster and remove everything that belongs to it
	@bin/cluster down

.PHONY: clean
clean: ## remove build output
	rm -rf bin coverage.out

bin/cluster: $(filter-out %_test.go,$(wildcard test/cluster/*.go)) test/cluster/go.mod
	go build -C test/cluster -o ../../bin/cluster .

bin/kubernetes: test/cluster/kubernetes/main.go test/cluster/go.mod test/cluster/go.sum
	@echo "building Kubernetes $(K8S_VERSION) from source; this takes some minutes with an empty build cache"
	CGO_ENABLED=0 go build -C test/cluster -trimpath -ldflags '$(K8S_LDFLAGS)' -o ../../bin/kubernetes ./kubernetes

bin/kubectl: test/cluster/kubectl/main.go test/cluster/go.mod test/cluster/go.sum
	rm -f $@ # may be a symbolic link from an older version
	CGO_ENABLED=0 go build -C test/cluster -trimpath -ldflags '$(K8S_LDFLAGS)' -o ../../$@ ./kubectl

bin/images/pause.tar: bin/cluster test/cluster/pause/main.go
	mkdir -p bin/images
	CGO_ENABLED=0 go build -C test/cluster -trimpath -ldflags '-s -w' -o ../../bin/images/pause ./pause
	bin/cluster image $@ kubeshore.test/pause:1 bin/images/pause

bin/images/go-ok.tar: bin/cluster test/sample/go-ok/main.go
	mkdir -p bin/images
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/images/go-ok ./test/sample/go-ok
	bin/cluster image $@ kubeshore.test/go-ok:1 bin/images/go-ok

bin/images/peer.tar: bin/cluster $(filter-out %_test.go,$(wildcard test/peer/*.go internal/backoff/*.go)) test/peer/cmd/main.go
	mkdir -p bin/images
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/images/peer ./test/peer/cmd
	bin/cluster image $@ kubeshore.test/peer:1 bin/images/peer

bin/images/servers: test/servers/collect.sh
	bash test/servers/collect.sh $@

bin/images/servers.tar: bin/cluster bin/images/servers
	bin/cluster image $@ kubeshore.test/servers:1 bin/images/servers

bin/golangci-lint: tools/go.mod tools/go.sum
	go build -C tools -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bin/govulncheck: tools/go.mod tools/go.sum
	go build -C tools -o ../bin/govulncheck golang.org/x/vuln/cmd/govulncheck
