# Shared by the scripts beside it; source it, do not run it.

set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly repo

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
in_ci() { [[ ${CI:-} == true || ${CI:-} == 1 ]]; }

# Rust installed by rustup is not always on a script's PATH; `cargo install` puts its programs there too.
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"

# Ends the script unless commands can be run as root without a password being asked for.
root_for() {
    [[ $(id -u) == 0 ]] || { have sudo && sudo -n true 2>/dev/null; } || die "this needs root: $*
Run that as root, or allow sudo without a password; then run the same command again."
}

# Runs a command as root, without ever asking for a password.
as_root() {
    root_for "$*"
    if [[ $(id -u) == 0 ]]; then "$@"; else sudo -n "$@"; fi
}

# Runs one phase and says how long it took.
phase() {
    local name=$1 start=$SECONDS
    shift
    say "==> $name"
    "$@"
    say "==> $name: done in $((SECONDS - start)) s"
}

# The directory that cargo builds into.
target_dir() {
    (cd "$repo" && cargo metadata --no-deps --format-version 1) |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# Whether a Docker engine answers (the client alone is not enough).
engine_answers() { have docker && timeout 20 docker info >/dev/null 2>&1; }

# The host's Debian suite, such as `bookworm`.
debian_suite() {
    local suite
    suite=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    [[ -n $suite ]] || die "/etc/os-release names no VERSION_CODENAME: this needs a Debian machine"
    printf '%s\n' "$suite"
}

# The mirror that this machine's apt uses for the suite; Debian's public one where apt names none.
debian_mirror() {
    local mirror
    mirror=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(COMPONENT) $(SITE)' \
        'Created-By: Packages' 2>/dev/null |
        awk -v suite="$1" '$1 == suite && $2 == "main" { print $3; exit }')
    printf '%s\n' "${mirror:-http://deb.debian.org/debian}"
}

# debootstrap with this machine's mirror and apt proxy: suite, directory, packages by comma.
bootstrap() {
    local suite=$1 root=$2 packages=$3 mirror http https
    mirror=$(debian_mirror "$suite")
    http=$(apt_setting Acquire::http::Proxy)
    https=$(apt_setting Acquire::https::Proxy)
    as_root env ${http:+http_proxy="$http"} ${https:+https_proxy="$https"} \
        debootstrap --variant=minbase --include="$packages" "$suite" "$root" "$mirror"
}

# One value of apt's configuration, nothing where it is unset; `DIRECT` means: no proxy.
apt_setting() {
    local value
    eval "$(apt-config shell value "$1")"
    [[ ${value:-} == DIRECT ]] || printf '%s' "${value:-}"
}
