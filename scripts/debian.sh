#!/usr/bin/env bash
# Gets Debian packages: installs them as root, unpacks them into .deb/ otherwise.
#   scripts/debian.sh PACKAGE...      get these
#   scripts/debian.sh --level LEVEL   get what scripts/setup.sh LEVEL needs
#   scripts/debian.sh --check LEVEL   exit 0 if what LEVEL must have is there
# Unpacked packages work through scripts/env.sh, which sets PATH and LD_LIBRARY_PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

DEB=.deb
RUN=(libflite1 libasound2 libspeexdsp1)
# Peers and tools that tests call; a test skips, saying why, where its peer is missing.
TEST=(sip-tester baresip-core kamailio kamailio-tls-modules flite sox redis-server
    tcpdump iproute2
    asterisk-core-sounds-{en,fr,it,ru}-{wav,g722})
# Of no use unpacked: they name absolute paths, or need a user of their own. The last three compile.
TEST_ROOT=(chromium postgresql linphone-cli gcc libc6-dev python3-dev)

say() { echo "setup: $*" >&2; }

installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

present() { # installed, provided under a newer name (libasound2t64), or unpacked here
    installed "$1" || installed "$1t64" || [ -f "$DEB/.unpacked/$1" ]
}

missing() {
    local name
    for name; do present "$name" || echo "$name"; done
}

as_root() {
    export DEBIAN_FRONTEND=noninteractive
    local options=(-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5 -o Acquire::http::Timeout=60)
    apt-get "${options[@]}" update >&2 || say "apt-get update failed; trying with the lists there are"
    # Services of the packages are not to start: the tests start their own.
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
        made=1
    fi
    local status=0
    apt-get "${options[@]}" install --yes --no-install-recommends "$@" >&2 || status=$?
    if [ -n "$made" ]; then rm -f $policy; fi
    return $status
}

unpack() { # without root: apt resolves and downloads in directories of its own
    local apt=$PWD/$DEB/.apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/log" "$DEB/.unpacked"
    local options=(-qq
        -o Dir::State="$apt" -o Dir::State::lists="$apt/lists"
        -o Dir::State::status=/var/lib/dpkg/status -o Dir::State::extended_states="$apt/extended"
        -o Dir::Cache="$apt/cache" -o Dir::Log="$apt/log" -o Debug::NoLocking=true
        -o APT::Sandbox::User= -o Acquire::Retries=5 -o Acquire::http::Timeout=60
        -o APT::Install-Recommends=false)
    apt-get "${options[@]}" update >&2
    rm -f "$apt"/cache/archives/*.deb
    apt-get "${options[@]}" install --yes --download-only "$@" >&2
    local file
    for file in "$apt"/cache/archives/*.deb; do
        dpkg-deb --extract "$file" "$DEB"
    done
    rm -rf "$apt/cache"
    local name
    for name; do touch "$DEB/.unpacked/$name"; done
}

get() {
    local wanted
    mapfile -t wanted < <(missing "$@")
    [ ${#wanted[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || {
        say "no apt-get here; install these by hand: ${wanted[*]}"
        return 1
    }
    if [ "$(id -u)" = 0 ]; then
        say "installing ${wanted[*]}"
        as_root "${wanted[@]}"
    else
        say "unpacking ${wanted[*]} into $DEB/ (not root)"
        unpack "${wanted[@]}"
    fi
}

get_each() { # one that can't be had doesn't keep the others away
    get "$@" && return
    local name
    for name; do
        get "$name" || say "could not get $name: the tests that need it will skip"
    done
}

case ${1:-} in
--check)
    [ -z "$(missing "${RUN[@]}")" ]
    ;;
--level)
    get "${RUN[@]}"
    if [ "${2:-run}" = test ]; then
        get_each "${TEST[@]}"
        if [ "$(id -u)" = 0 ]; then
            get_each "${TEST_ROOT[@]}"
        elif [ -n "$(missing "${TEST_ROOT[@]}")" ]; then
            say "not root: no ${TEST_ROOT[*]}; the tests that need it will skip"
        fi
    fi
    ;;
*)
    get "$@"
    ;;
esac
