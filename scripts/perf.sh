#!/usr/bin/env bash
# Measures the project's speed limits, each as a ratio against a named peer or a limit within one run, and prints a
# table. Exits 1 when a limit is broken. Arguments choose: scripts/perf.sh collect import
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/setup.sh"

need javac openjdk-17-jdk-headless || need javac default-jdk-headless || exit 2
need cc gcc libc6-dev || exit 2
need ssh openssh-client || exit 2
need rsync rsync || exit 2
setup_python load,docker,policy,test,dev

cd "$ROOT"
exec "$VENV/bin/python" perf/limits.py "$@"
