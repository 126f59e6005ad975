#!/usr/bin/env bash
# A throw-away appliance in the foreground, for a TTS developer's desk; arguments go to
# `mintwarden dev`, such as: -- COMMAND.

. "$(dirname "$0")/lib.sh"
cd "$repo"

scripts/setup.sh build run
cargo build --workspace --locked --lib --bins --examples
exec "$(target_dir)/debug/mintwarden" dev "$@"
