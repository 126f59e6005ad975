#!/usr/bin/env bash
# One real Txn-Token, on a machine that has only Rust, git and make: a throw-away SoftHSM2 token, CA,
# certificates and appliance (`mintwarden dev`), and the example that signs and verifies against it.
# Leaves token.jwt, jwks.json and mintwarden.toml in target/demo.

. "$(dirname "$0")/lib.sh"
cd "$repo"

scripts/setup.sh build run
phase "build" cargo build --locked --bins -p mintwarden -p mintwarden-pkcs11 -p mintwardenctl
phase "build the demo" cargo build --locked -p mintwarden-tests --example demo

built=$(target_dir)/debug
"$built/mintwarden" dev -- "$built/examples/demo" target/demo
