#!/usr/bin/env bash
# Compiles the modules that every 20 ms of every call goes through (setup.py names them) to C.
#   scripts/compile.sh           build them, unless they are there for exactly these sources
#   scripts/compile.sh --where   print the folder they are in; nothing where there are none
# The folder holds the whole package, and comes first in PYTHONPATH where it is to be used: a change
# of any source makes it another folder, so that what runs is never older than what is read.
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
key() {
    {
        find agent streaming telephony voices loadtest config -type f -not -path '*/__pycache__/*' \
            -print0 | LC_ALL=C sort --zero-terminated | xargs --null sha256sum
        sha256sum setup.py pyproject.toml
        "$python" -VV
    } | sha256sum | cut -c1-16
}

folder=build/compiled/$(key)
case ${1:-} in
--where)
    if [ -d "$folder" ]; then echo "$PWD/$folder"; fi
    exit 0
    ;;
'') ;;
*)
    echo "compile: unknown argument '$1'; allowed: --where" >&2
    exit 2
    ;;
esac
[ ! -d "$folder" ] || exit 0
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
if ! command -v cc >/dev/null || [ ! -f "$headers/Python.h" ]; then
    bash scripts/debian.sh gcc libc6-dev python3-dev
    [ -f "$headers/Python.h" ] || {
        echo "compile: $headers/Python.h is missing; install this Python's headers" >&2
        exit 1
    }
fi
echo "compile: building $folder" >&2
mkdir -p build/compiled
rm -rf build/compiled/.new
# a server may still run from the one that was built last
find build/compiled -mindepth 1 -maxdepth 1 -type d -printf '%T@ %p\n' | sort --reverse --numeric-sort |
    tail -n +2 | cut -d' ' -f2- | xargs --no-run-if-empty rm -rf
log=build/compiled/log
RINGTRUE_COMPILED=1 "$python" setup.py -q build --build-lib build/compiled/.new >"$log" 2>&1 || {
    cat "$log" >&2
    exit 1
}
mv build/compiled/.new "$folder"
