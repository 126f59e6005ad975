#!/usr/bin/env bash
# Proves that a clean clone works on a fresh machine: a minimal Debian root with Rust, git and make and
# nothing else, in which `make demo` and then `make test` run as root with an empty environment.
#
#   scripts/minimal-root-trial.sh [--worktree] DIRECTORY [COMMAND]
#
#   DIRECTORY    where the root is made: new or empty; it stays for inspection, remove it afterwards
#   COMMAND      instead of 'make demo && make test'
#   --worktree   the files as they lie here, committed or not, instead of a clone
#
# Needs root, and debootstrap (installed when missing). The Rust toolchain is copied from this machine;
# cargo-nextest is not, so that its installation is tried too. What this machine needs to reach Debian's
# packages and crates.io (mirror, proxies, certificate authorities, cargo's settings) goes along; cargo's
# caches do not. Processes and mounts live in namespaces of their own and end with the trial. No Docker
# engine is reached from inside: `make test` says that container tests are left out.

. "$(dirname "$0")/lib.sh"

main() {
    local worktree=false root command
    if [[ ${1:-} == --worktree ]]; then worktree=true; shift; fi
    root=${1:?say which directory: $0 [--worktree] DIRECTORY [COMMAND]}
    command=${2:-make demo && make test}
    [[ $(id -u) == 0 ]] || die "needs root: debootstrap and chroot"
    [[ ! -e $root || -z $(ls -A "$root") ]] || die "$root is not empty"
    mkdir -p "$root"
    root=$(cd "$root" && pwd)

    "$repo/scripts/setup.sh" container
    phase "minimal root" make_root "$root"
    phase "Rust toolchain" copy_rust "$root"
    carry_settings "$root"
    if $worktree; then copy_worktree "$root"; else git clone --quiet --no-hardlinks "$repo" "$root/root/mintwarden"; fi

    say "==> in the root: $command"
    # The first process of the namespace: when it ends, so do all others, and the mounts are gone.
    unshare --mount --pid --fork --kill-child bash -euc '
        mount -t proc proc "$1/proc"
        exec chroot "$1" /usr/bin/env -i bash -c "$2"
    ' trial "$root" "set -a; . /root/environment; set +a; cd /root/mintwarden; $command" </dev/null
    say "==> the trial passed, in $SECONDS s; the root is still in $root"
}

make_root() {
    local suite
    suite=$(debian_suite)
    bootstrap "$suite" "$1" ca-certificates,git,make >"$1.log" 2>&1 ||
        { tail -n 30 "$1.log" >&2; die "debootstrap failed: see above"; }
    rm -f "$1.log"
    # As this machine has them: updates and security too. What debootstrap loaded is not kept, so that
    # set-up meets the empty package lists of a fresh machine.
    apt-get indextargets --no-release-info --format '$(RELEASE) $(COMPONENT) $(SITE)' 'Created-By: Packages' |
        awk -v suite="$suite" 'index($1, suite) == 1 { print "deb " $3 " " $1 " " $2 }' | sort -u >"$1/etc/apt/sources.list"
    rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin
    apt-config dump | grep -E '^Acquire::(https?::|Retries|Check-)' >"$1/etc/apt/apt.conf.d/90trial" || true
}

# The active toolchain without its documentation, independent of rustup and of anybody's home.
copy_rust() {
    mkdir -p "$1/opt/rust"
    tar -C "$(rustc --print sysroot)" --exclude=./share/doc --exclude=./share/man -c . | tar -C "$1/opt/rust" -x
}

carry_settings() {
    local root=$1 cargo_home=${CARGO_HOME:-$HOME/.cargo} file name
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
        cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
        chroot "$root" update-ca-certificates >/dev/null 2>&1
    fi
    mkdir -p "$root/root/.cargo"
    for file in config.toml config; do
        if [[ -f $cargo_home/$file ]]; then cp "$cargo_home/$file" "$root/root/.cargo/"; fi
    done
    if [[ -f /etc/pip.conf ]]; then cp -L /etc/pip.conf "$root/etc/"; fi
    {
        say "HOME=/root PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8"
        for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY \
            $(compgen -e | grep -E '^(CARGO_(HTTP|NET|REGISTR|SOURCE)|PIP_)' | grep -vE 'TOKEN|CREDENTIAL' || true); do
            if [[ -n ${!name:-} ]]; then printf '%s=%q\n' "$name" "${!name}"; fi
        done
    } >"$root/root/environment"
}

copy_worktree() {
    mkdir "$1/root/mintwarden"
    (cd "$repo" && git ls-files -z --cached --others --exclude-standard |
        tar --null --ignore-failed-read -T - -c) | tar -C "$1/root/mintwarden" -x
}

main "$@"
