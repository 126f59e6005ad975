#!/usr/bin/env bash
# The whole story of a Txn-Token, on a machine that has only Rust, git and make: a throw-away SoftHSM2
# token, CA, certificates and appliance (`mintwarden dev`), and the example that puts an IdP, a TTS and two
# workloads around it. Leaves token.jwt, jwks.json, all configuration and the logs in target/demo.

. "$(dirname "$0")/lib.sh"
cd "$repo"

scripts/setup.sh build run
# As `make test` builds, so that each dependency is compiled once for both.
phase "build" cargo build --workspace --locked --lib --bins --examples

built=$(target_dir)/debug
"$built/mintwarden" dev -- "$built/examples/demo" target/demo
