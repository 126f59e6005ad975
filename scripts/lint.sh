#!/usr/bin/env bash
# What CI asks of the sources before it runs them; the cheap checks first.

. "$(dirname "$0")/lib.sh"
cd "$repo"

scripts/setup.sh build ci
phase "rustfmt" cargo fmt --all --check
# Not `advisories`: their database comes from the network, which a build machine need not reach.
# `make advisories` is for one that does.
phase "cargo deny" cargo deny --locked check --hide-inclusion-graph bans licenses sources
phase "clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
