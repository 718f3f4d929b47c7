#!/usr/bin/env bash
# Sets everything up and runs a real campaign over the sample service: builds two versions in two modes, measures them
# in turn, prints the comparison and says where the files are. Arguments go to the campaign: scripts/demo.sh --runs 10
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/setup.sh"

need javac openjdk-17-jdk-headless || need javac default-jdk-headless || exit 2
need cc gcc libc6-dev || exit 2
setup_python load,report

cd "$ROOT"
[ $# -gt 0 ] || set -- --runs 6
exec "$VENV/bin/staging-manager" run-campaign --baseline baseline --candidate nodelay "$@"
