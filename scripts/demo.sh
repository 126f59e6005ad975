#!/usr/bin/env bash
# One real Txn-Token, on a machine that has only Rust, git and make: a throw-away SoftHSM2 token, CA,
# certificates and appliance (`mintwarden dev`), and the example that signs and verifies against it.
# Leaves token.jwt, jwks.json and mintwarden.toml in target/demo.

. "$(dirname "$0")/lib.sh"
cd "$repo"

scripts/setup.sh build run
# As `make test` builds, so that each dependency is compiled once for both.
phase "build" cargo build --workspace --locked --lib --bins --examples

built=$(target_dir)/debug
"$built/mintwarden" dev -- "$built/examples/demo" target/demo
