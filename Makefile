SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CGO_ENABLED := 0
GO_BUILD := go build -trimpath
PACKAGES := ./...
LAB_SOURCES := $(shell find hack/lab -name '*.go' -o -name go.sum -o -path '*/nodeconfig/files/*')
RELEASE_SOURCES := $(wildcard hack/release/*) $(shell find hack/lab/operatorimage hack/lab/internal/image -name '*.go')

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: bin/lab ## from a bare machine (Linux, root) to the four samples' verdicts
	@hack/demo.sh

.PHONY: demo-down
demo-down: bin/lab ## remove the lab of the demo, and all that is in it
	@bin/lab down --name $${LAB_NAME:-default}

.PHONY: build
build: ## build the operator, the agent and the kubectl plugin into bin/
	$(GO_BUILD) -o bin/manager .
	$(GO_BUILD) -o bin/probe ./cmd/probe
	$(GO_BUILD) -o bin/kubectl-meshprobe ./cmd/kubectl-meshprobe

.PHONY: test
test: ## run every test that this machine can run, and name those it cannot
	@hack/test.sh

.PHONY: test-unit
test-unit: bin/lab ## run the tests that need no lab; API and controllers against a real kube-apiserver and etcd
	@KUBEBUILDER_ASSETS=$$(bin/lab assets) go test -trimpath $(PACKAGES)

.PHONY: test-e2e
test-e2e: bin/lab ## run the end-to-end tests on a lab of their own
	@hack/e2e.sh

.PHONY: test-install
test-install: bin/lab bin/helm ## install, upgrade and remove the operator on a lab of its own, by kustomize and by Helm
	@hack/install-test.sh

.PHONY: test-alerts
test-alerts: bin/promtool ## test the alerts by promtool, and that each has its runbook
	@PROMTOOL=$(CURDIR)/bin/promtool go test -trimpath -count=1 ./config/prometheus/...

.PHONY: test-browser
test-browser: bin/lab ## test the page of kubectl meshprobe ui in Chromium, which is installed if need be (Debian, root)
	@hack/chromium.sh
	@cd test/browser && KUBEBUILDER_ASSETS=$$(../../bin/lab assets) go test -trimpath -count=1 ./...

.PHONY: screenshots
screenshots: bin/lab ## make the pictures in docs/images anew, of probes on a lab of their own
	@hack/screenshots.sh

.PHONY: bench
bench: bin/lab ## measure probes and apply-to-Ready on a lab of their own
	@hack/bench.sh

.PHONY: lint
lint: bin/golangci-lint ## run the linters; depguard holds the one-way imports
	@bin/golangci-lint run ./...

.PHONY: release
release: bin/release bin/cyclonedx-gomod ## build the release VERSION into dist/, and publish nothing (docs/release.md)
	@bin/release --version "$(VERSION)"

.PHONY: generate
generate: bin/controller-gen ## generate the API's deep copies and its reference
	@bin/controller-gen object paths=./api/...
	@go run -trimpath ./hack/reference

.PHONY: manifests
manifests: bin/controller-gen ## generate the CRD, the operator's roles, and the chart's copies of both
	@bin/controller-gen crd paths=./api/... output:crd:dir=config/crd
	@bin/controller-gen rbac:roleName=httpsmeshprobe-manager paths=./controllers/... output:rbac:dir=config/rbac
	@go run -trimpath ./config/generate

.PHONY: verify
verify: manifests generate ## fail if generated files are stale
	@git diff --exit-code -- api config charts docs/install.md docs/reference.md || { echo "generated files are stale: run make manifests generate and commit the result"; exit 1; }

bin/lab: $(LAB_SOURCES)
	@cd hack/lab && $(GO_BUILD) -o ../../bin/lab .

bin/controller-gen: hack/tools/go.mod hack/tools/go.sum
	@cd hack/tools && $(GO_BUILD) -o ../../bin/controller-gen sigs.k8s.io/controller-tools/cmd/controller-gen

bin/release: $(RELEASE_SOURCES)
	@cd hack/release && $(GO_BUILD) -o ../../bin/release .

bin/cyclonedx-gomod: hack/sbom/go.mod hack/sbom/go.sum
	@cd hack/sbom && $(GO_BUILD) -o ../../bin/cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod

bin/helm: hack/helm/go.mod hack/helm/go.sum
	@cd hack/helm && $(GO_BUILD) -o ../../bin/helm helm.sh/helm/v4/cmd/helm

bin/golangci-lint: hack/lint/go.mod hack/lint/go.sum
	@cd hack/lint && $(GO_BUILD) -o ../../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# promtool and prometheus, as Debian packages them.
bin/promtool: hack/prometheus.sh
	@hack/prometheus.sh
