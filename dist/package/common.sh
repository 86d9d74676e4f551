# What the scripts beside it share. They run in the root of the repository.
# shellcheck shell=bash

export CARGO_INCREMENTAL=0 LC_ALL=C TZ=UTC
umask 022

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# shellcheck disable=SC2034
program=bpf-metrics-exporter
# shellcheck disable=SC2034
version=${DIST_VERSION:-$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)}

# The checkout may belong to another user, as with sudo. The build script of the program runs git, too.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'

# The date of everything that is made.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) ||
        die 'the date of the commit is unknown: this needs git and a clone'
fi
export SOURCE_DATE_EPOCH

# The settings that packages install.
# shellcheck disable=SC2034
defaults=${DIST_DEFAULTS:-dist/package/defaults}

# What is made, and what is only needed for it.
# shellcheck disable=SC2034
out=${DIST_OUT:-target/dist} work=${DIST_WORK:-target/package}

# Names of an architecture: rustc's, that of Debian, and that of OCI images.
# shellcheck disable=SC2034
names_of() {
    case $1 in
        x86_64) debian=amd64 ;;
        aarch64) debian=arm64 ;;
        *) die "$1 is neither x86_64 nor aarch64" ;;
    esac
    target=$1-unknown-linux-gnu
}
