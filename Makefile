# Thin: what each command does stands in scripts/. demo, test and dev install what is missing first,
# asking nothing.

.PHONY: help demo test dev bench docs fmt lint advisories image trial

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## the whole story of a Txn-Token: exchange, signature in SoftHSM2, two workloads, four attacks
	@scripts/demo.sh

test: ## all tests; ARGS='…' goes to cargo nextest
	@scripts/test.sh $(ARGS)

dev: ## a throw-away appliance in the foreground; ARGS='-- COMMAND' runs COMMAND against it
	@scripts/dev.sh $(ARGS)

bench: ## the budget of DESIGN.md, measured against raw loops on the same device
	@scripts/setup.sh build run
	@cargo run --release --locked -p mintwarden-benches -- $(ARGS)

docs: ## write anew what is generated: docs/proto.md, proto/api.txt, proto/vectors/
	@scripts/docs.sh

fuzz: ## look for inputs that break what must hold for any; ARGS='SECONDS [TARGET...]'
	@scripts/fuzz.sh $(ARGS)

fmt: ## format the sources
	@cargo fmt --all

lint: ## formatting, clippy, licences, sources and bans, as CI checks them
	@scripts/lint.sh

advisories: ## known vulnerabilities in dependencies (fetches the advisory database)
	@scripts/setup.sh build ci
	@cargo deny --locked check advisories

image: ## a container image of a release build; BASE=image starts from that one
	@scripts/setup.sh build
	@cargo build --release --locked --no-default-features -p mintwarden -p mintwarden-pkcs11 -p mintwarden-tpm -p mintwardenctl
	@TAG=$${TAG:-mintwarden:$$(git describe --always --dirty)} scripts/image.sh release

trial: ## demo and test from a clean clone in a minimal Debian root; ROOT=directory, needs root
	@scripts/minimal-root-trial.sh $(or $(ROOT),$(error say where: make trial ROOT=/some/new/directory))
