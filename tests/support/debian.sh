# shellcheck shell=bash disable=SC2154
#
# Packages of any Debian release for the install scripts: sourced, not run. They come from where the machine's apt is configured
# to get them; no address is named here. Expects $work, a directory that goes with the script, and `die`.

# Runs a command silently; if it fails, shows what it said.
quiet() {
    local status=0
    "$@" >"$work/log" 2>&1 || status=$?
    [ "$status" = 0 ] || cat "$work/log" >&2
    return "$status"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

### The machine's own Debian sources

machine_update() {
    local try
    # apt-get does not wait for another process that holds the lists' lock.
    for try in 1 2 4 8 0; do
        if as_root apt-get -q update >"$work/log" 2>&1; then return; fi
        sleep "$try"
    done
    cat "$work/log" >&2
    die "apt-get update failed"
}

# Prints the name of the Debian release that the machine runs.
codename() {
    # shellcheck source=/dev/null
    (. /etc/os-release && echo "$VERSION_CODENAME")
}

# Prints the address of the mirror the machine gets its Debian release from.
mirror() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
        'Origin: Debian' "Codename: $(codename)" 'Component: main' | head -n 1
}

### A Debian release, with apt state of its own

# release NAME: makes $work/apt/NAME/apt.conf, for `apt-get -c`, unless it is there. NAME is a codename, or that of a release's
# backports, which come with the release.
release() {
    local uri suite apt=$work/apt/$1
    [ ! -e "$apt/apt.conf" ] || return 0
    uri=$(mirror)
    if [ -z "$uri" ]; then
        machine_update
        uri=$(mirror)
        [ -n "$uri" ] || die "no Debian mirror among the machine's apt sources"
    fi
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/state"
    # No package counts as installed, so that the resolver lists them all.
    : >"$apt/status"
    # Only main's package index, not the other indexes the machine may want.
    printf '%s\n' "$1" "${1%-backports}" | uniq | while read -r suite; do
        echo "deb [arch=$(dpkg --print-architecture) target=Packages" \
            "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main"
    done >"$apt/sources.list"
    # All else (proxies, certificates, checks) stays as the machine has it.
    cat >"$apt/unread.conf" <<CONF
Dir::State "$apt/state";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Default-Release "$1";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
    quiet apt-get -q -c "$apt/unread.conf" update
    mv "$apt/unread.conf" "$apt/apt.conf"
}

# closure RELEASE PACKAGE...: prints the packages and all they depend on.
closure() {
    local conf=$work/apt/$1/apt.conf
    shift
    apt-get -c "$conf" -s install --no-install-recommends "$@" | awk '$1 == "Inst" { print $2 }'
}

# download FOLDER [apt-get options] PACKAGE...: fetches and verifies .deb files.
# (apt's own download user can perhaps not write there, hence the sandbox user.)
download() (
    mkdir -p "$1" && cd "$1" && shift &&
        apt-get -q -o APT::Sandbox::User=root download "$@"
)

# download_source RELEASE FOLDER PACKAGE: fetches and verifies upstream's archive of a source package, without Debian's patches.
# Expects `release RELEASE`.
download_source() (
    apt=$work/apt/$1
    options=(-q -c "$apt/apt.conf" -o Dir::Etc::sourcelist="$apt/archives.list" -o Dir::State::lists="$apt/archives")
    mkdir -p "$apt/archives/partial" "$2"
    sed -e 's/^deb /deb-src /' -e 's/arch=[^ ]* target=Packages/target=Sources/' "$apt/sources.list" >"$apt/archives.list"
    apt-get "${options[@]}" update &&
        cd "$2" && apt-get "${options[@]}" source --tar-only "$3"
)
