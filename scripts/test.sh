#!/usr/bin/env bash
# Sets everything up and runs the checks and tests. Arguments go to pytest: scripts/test.sh tests/stats -k holm
#
# What the real parts need is installed through apt when this is root on a Debian-like machine; otherwise the tests of a
# missing part skip with the reason. STAGING_REQUIRE_LAB=1 makes such a skip a failure.
#
# Packages: openjdk-17-jdk-headless, gcc and libc6-dev (the sample service), python3-venv where it is missing; wrk and
# nghttp2-client (load tools); the tests of the lab also use docker.io and iptables, which
# scripts/lab/start-engine.sh installs by the same rule; those of queues use rabbitmq-server and curl, and
# scripts/lab/rabbitmq.sh starts a broker on ports of its own; that of the policy's page uses chromium.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/setup.sh"

need javac openjdk-17-jdk-headless || need javac default-jdk-headless || true
need cc gcc libc6-dev || true
need curl || true
# RUNLEVEL=1 keeps the package from starting a broker of its own.
RUNLEVEL=1 need /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server || true
need wrk || true
need h2load nghttp2-client || true
need chromium || true
setup_python load,docker,policy,test,dev

cd "$ROOT"
if [ $# -gt 0 ]; then exec "$VENV/bin/python" -m pytest "$@"; fi

say "ruff"; "$VENV/bin/ruff" check .
say "mypy"; "$VENV/bin/mypy"
say "pytest"
# Most tests wait for services, hosts and engines. Tests of one file share what they start, so they stay together.
exec "$VENV/bin/python" -m pytest -n "${STAGING_TEST_WORKERS:-2}" --dist loadfile --durations=10
