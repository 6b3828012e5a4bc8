# make, or make help, says what there is.

# The programs that tests and checks are run with, built from Go modules into bin/.
VERSITYGW     := github.com/versity/versitygw/cmd/versitygw v1.8.0
MINIO         := github.com/minio/minio v0.0.0-20260212201848-7aac2a2c5b7c
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint v2.15.0

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
IMAGE    ?= localhost/redis-sidecar:dev
FUZZTIME ?= 1m
COUNT    ?= 5

# The race detector needs a C compiler; the servers come from Debian.
SERVERS  := redis-server:redis-server redis-sentinel:redis-sentinel redis-cli:redis-tools zstd:zstd promtool:prometheus aws:awscli age:age
COMPILER := cc:gcc cc:libc6-dev

.DEFAULT_GOAL := help
.PHONY: help demo build test race lint check fuzz bench bench-backup faults size e2e image docs tools clean

help: ## this list
	@echo "usage: make TARGET"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the whole job on this machine: Redis, an S3 server, the sidecar
	@test/tools/apt.sh redis-server:redis-server
	@test/tools/go.sh $(VERSITYGW)
	@$(MAKE) --no-print-directory build
	@go run ./test/demo

build: ## bin/redis-sidecar, as it is released: static, small
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/redis-sidecar

test: ## all tests with the race detector; installs the servers they need
	@test/tools/apt.sh $(SERVERS) $(COMPILER)
	@test/tools/go.sh $(VERSITYGW)
	@test/tools/go.sh $(MINIO)
	CGO_ENABLED=1 go run ./test/skips -- -race -count 1 -p 2 -timeout 25m ./test/... ./...

race: test ## all tests COUNT times over (5), in random order, to find rare races
	CGO_ENABLED=1 go run ./test/skips -- -race -p 2 -timeout 60m -count $(COUNT) -shuffle on ./...

lint: ## formatting, vet, linters, go.mod, what the linker keeps, generated docs, shell scripts
	@test/tools/go.sh $(GOLANGCI_LINT)
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "gofmt -w is due for: $$files"; exit 1; }
	go vet ./...
	bin/golangci-lint run
	go mod tidy -diff
	test/tools/linkguard.sh ./cmd/redis-sidecar
	go run ./test/docs -check
	test/tools/shell.sh

check: lint test ## lint and test: what has to be green before a push

fuzz: ## every fuzz target for FUZZTIME (1m)
	test/tools/fuzz.sh $(FUZZTIME)

bench: build ## benchmarks, what a scrape allocates, and what it costs; BENCH="-other '…'" compares
	@test/tools/apt.sh $(SERVERS)
	@test/tools/go.sh $(VERSITYGW)
	go test -run 'Allocations$$' -bench . -benchmem ./...
	go run ./test/bench $(BENCH)

bench-backup: build ## backup and restore of 1 GiB beside aws and rclone; BENCH="-gib 4 -reps 1" for more
	@test/tools/apt.sh redis-server:redis-server aws:awscli rclone:rclone age:age
	@test/tools/go.sh $(VERSITYGW)
	@test/tools/go.sh $(MINIO)
	go run ./test/benchbackup $(BENCH)

faults: build ## the fault table of backup and restore, half an hour; FAULTS="-chaos 250", "-only REGEXP"
	@test/tools/apt.sh redis-server:redis-server
	@test/tools/go.sh $(VERSITYGW)
	go run ./test/faults $(FAULTS)

size: build ## size of the binary, its memory when idle, when scraped, when backing up 1 GiB
	@test/tools/apt.sh $(SERVERS)
	@test/tools/go.sh $(VERSITYGW)
	go run ./test/size

e2e: ## the StatefulSets of deploy/ in the cluster of KUBECONFIG, see docs/testing.md
	@test/tools/go.sh $(VERSITYGW)
	go run ./test/e2e

image: ## the container image IMAGE: by docker or, without its daemon, as an archive in bin/
	test/image/build.sh $(IMAGE) $(VERSION)

docs: ## the generated parts of docs/
	go run ./test/docs

tools: ## bin/: the S3 servers of the tests and the linter
	@test/tools/go.sh $(VERSITYGW)
	@test/tools/go.sh $(MINIO)
	@test/tools/go.sh $(GOLANGCI_LINT)

clean: ## bin/ and what tests leave behind
	rm -rf bin
