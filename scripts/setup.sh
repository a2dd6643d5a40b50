#!/usr/bin/env bash
# Sets up what a make target needs: scripts/setup.sh run|lint|test|bench|fuzz
#   run   the virtual environment with the package, and libflite: demo and serve
#   lint  run, and the linters
#   test  run, and the test dependencies and the real peers that tests call
#   bench run, and what the quality bench of cloned voices measures and plots with
#   fuzz  run, and the fuzzer
# A stamp keyed on everything it depends on makes the second run a matter of milliseconds; a set-up
# that was cut off leaves no stamp and is taken up again.
set -euo pipefail
cd "$(dirname "$0")/.."

level=${1:-run}
case $level in run | lint | test | bench | fuzz) ;; *)
    echo "setup: unknown level '$level'; allowed: run, lint, test, bench, fuzz" >&2
    exit 2
    ;;
esac

VENV=.venv
TORCH=torch==2.13.0 # only for tests, which build a tiny Whisper with it; CPU build only
export PIP_DEFAULT_TIMEOUT=${PIP_DEFAULT_TIMEOUT:-60} PIP_RETRIES=${PIP_RETRIES:-8}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
# Flags of the caller's environment that would send packages elsewhere than into the venv.
unset PIP_TARGET PIP_PREFIX PIP_USER PIP_REQUIRE_VIRTUALENV PYTHONHOME

say() { echo "setup: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

# Only one set-up at a time works on this tree; a second waits for the first. What it starts
# inherits the lock, so a set-up whose shell was killed still keeps others out until it is done.
exec 9<.
flock --exclusive 9

stamp_key() {
    {
        cat pyproject.toml setup.py scripts/setup.sh scripts/debian.sh
        pwd
        readlink -f "$VENV/bin/python" || true
    } | sha256sum | cut -d' ' -f1
}

stamp=$VENV/.setup-$level
if [ -x "$VENV/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(stamp_key)" ] &&
    bash scripts/debian.sh --check "$level"; then
    exit 0
fi

usable() { # a Python of a supported version that can make virtual environments
    "$1" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}

choose_python() {
    local candidate
    for candidate in ${PYTHON:-} /usr/bin/python3 python3.11 python3.12 python3.13 python3; do
        if command -v "$candidate" >/dev/null && usable "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

retry() { # an index that stalls or drops a connection gets three tries
    local try
    for try in 1 2 3; do
        "$@" && return
        say "attempt $try of 3 failed: ${*:1:6} ..."
        sleep $((try * 3))
    done
    return 1
}

pip() { "$VENV/bin/python" -m pip "$@"; }

make_venv() {
    local python wheel
    if ! python=$(choose_python); then
        [ "$(id -u)" = 0 ] || fail "no Python 3.11 to 3.13 found; install one, or name it: PYTHON=..."
        bash scripts/debian.sh python3 python3-venv
        python=$(choose_python) || fail "no Python 3.11 to 3.13 found, nor in Debian's packages"
    fi
    say "making $VENV with $python"
    rm -rf "$VENV"
    if "$python" -c 'import ensurepip; ensurepip.version()' 2>/dev/null && "$python" -m venv "$VENV"; then
        return
    fi
    # Debian splits ensurepip from Python; the pip wheel it would unpack is a package of its own.
    rm -rf "$VENV"
    "$python" -m venv --without-pip "$VENV"
    wheel=$(ls /usr/share/python-wheels/pip-*.whl .deb/usr/share/python-wheels/pip-*.whl \
        2>/dev/null | head -n1) || true
    if [ -z "$wheel" ]; then
        bash scripts/debian.sh python3-pip-whl
        wheel=$(ls /usr/share/python-wheels/pip-*.whl .deb/usr/share/python-wheels/pip-*.whl \
            2>/dev/null | head -n1) || true
    fi
    [ -n "$wheel" ] || fail "$python has neither ensurepip nor a pip wheel; install python3-venv"
    retry "$VENV/bin/python" "$wheel/pip" install -qq pip
}

cpu_torch() { # whether the index offers a build of torch that brings no CUDA along
    local report
    report=$(mktemp)
    pip install -qq --dry-run --report "$report" "$TORCH" >/dev/null 2>&1 || {
        rm -f "$report"
        return 1
    }
    "$VENV/bin/python" - "$report" <<'PY'
import json, sys
with open(sys.argv[1]) as file:
    names = [item["metadata"]["name"].lower() for item in json.load(file)["install"]]
sys.exit(any(name.startswith(("nvidia", "cuda", "triton")) for name in names))
PY
    local answer=$?
    rm -f "$report"
    return $answer
}

no_cuda() {
    local found
    found=$(pip list --format=freeze 2>/dev/null | grep -iE '^(nvidia|cuda|triton)' || true)
    [ -z "$found" ] || fail "CUDA packages came in, which nothing here needs:" $found
}

cut_off=$VENV/.setting-up # left behind only by an installation that was killed half way
whole_venv() { # complete, of a supported Python, and not moved here from another path
    [ ! -e "$cut_off" ] && [ -x "$VENV/bin/pip" ] && usable "$VENV/bin/python" &&
        "$VENV/bin/python" -c 'import pip' 2>/dev/null &&
        head -n1 "$VENV/bin/pip" | grep -qF "$PWD/$VENV/bin/python"
}

whole_venv || make_venv
touch "$cut_off"
trap 'rm -f "$cut_off"' EXIT
retry pip install -qq --upgrade 'pip>=24' 'setuptools>=77,<90' wheel

bash scripts/debian.sh --level "$level"

extras=
case $level in lint | bench | fuzz) extras="[$level]" ;; esac
if [ "$level" = test ]; then
    extras='[test]'
    if cpu_torch; then
        say "installing torch (CPU)"
        retry pip install -qq "$TORCH"
        extras='[test,models,pocket]'
    else
        say "no CPU build of $TORCH on this package index: the tests that need it will skip"
        say "(name an index that has one in PIP_EXTRA_INDEX_URL)"
    fi
fi
say "installing ringtrue$extras"
retry pip install -qq --editable ".$extras"
case $extras in *models*)
    # The speaker encoder's tests compare it with the original. Its own dependencies would replace
    # webrtcvad-wheels by a package to compile; what it needs of them is in the extra "models".
    retry pip install -qq --no-deps resemblyzer==0.1.4
    ;;
esac
no_cuda
"$VENV/bin/python" -c 'import ringtrue.agent, ringtrue.config.settings as s; s.load_settings(environ={})'
stamp_key >"$stamp"
say "ready"
