#!/usr/bin/env bash
# steady.sh PYTHON PYTEST-ARGUMENT...: the tests, and then those few that failed once more, alone.
#
# Workers share the machine, its engine and its broker, and a stall of some seconds may fail a test of real parts that
# found no fault. What fails by itself too is a fault, and so is more than a few failures. What passes is named: a test
# that is not steady is to be mended all the same.
set -euo pipefail
PYTHON=$1
shift
FEW=3
FAILED=.pytest_cache/v/cache/lastfailed

rm -f "$FAILED"
status=0
"$PYTHON" -m pytest "$@" || status=$?
[ "$status" = 1 ] && [ -f "$FAILED" ] || exit "$status" # 1: tests failed
names=$("$PYTHON" -c 'import json, sys; print(*json.load(open(sys.argv[1])), sep="\n")' "$FAILED")
[ "$(wc -l <<<"$names")" -le "$FEW" ] || exit 1
printf '>> these failed beside other tests, and run once more, alone:\n%s\n' "$names"
"$PYTHON" -m pytest --last-failed --last-failed-no-failures none
printf '>> not steady, passed alone only:\n%s\n' "$names"
