#!/usr/bin/env bash
# Sets everything up and runs the checks and tests. Arguments go to pytest: scripts/test.sh tests/stats -k holm
#
# Gates that need neither the sample service nor a container, each alone: --capacity-contract (capacity profiles),
# --policy-contract (throughput policy), --runbook-contract (the documents). Further arguments go to pytest.
#
# What the real parts need is installed through apt when this is root on a Debian-like machine; otherwise the tests of a
# missing part skip with the reason. STAGING_REQUIRE_LAB=1 makes such a skip a failure.
#
# Packages: openjdk-17-jdk-headless, gcc and libc6-dev (the sample service), python3-venv where it is missing; wrk and
# nghttp2-client (load tools); the tests of the lab also use docker.io and iptables, which
# scripts/lab/start-engine.sh installs by the same rule; those of queues use rabbitmq-server and curl, and
# scripts/lab/rabbitmq.sh starts a broker on ports of its own; those of capacity profiles use docker-compose, and
# scripts/lab/sample-images.sh makes the images (busybox-static, python3, and Prometheus and pika without installing them)
# and scripts/lab/compose-v2.sh fetches Compose v2 without installing it;
# those of HTML pages use chromium and fonts-dejavu-core.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/setup.sh"

# gate PYTEST-ARGUMENT...: one of the gates.
gate() {
  say "pytest"
  exec "$VENV/bin/python" -m pytest "$@"
}

# contract_tests NAME: the files of a gate's tests; a gate without any is broken, and must not pass.
contract_tests() {
  find tests -name "test_$1_contract*.py" | sort | grep . || die "no tests/**/test_$1_contract*.py: this gate checks nothing"
}

cd "$ROOT"
case "${1:-}" in
  --capacity-contract)
    shift
    setup_python load,docker,test,dev
    say "capacity profiles against their compose files"; "$VENV/bin/staging-manager" capacity validate
    gate tests/capacity "$@" ;;
  --policy-contract)
    shift
    setup_python policy,test,dev
    files=$(contract_tests policy)
    # shellcheck disable=SC2086  # one word per file; none of them has a space
    gate $files "$@" ;;
  --runbook-contract)
    shift
    setup_python test,dev
    gate --staging-contracts "$@" ;;
esac

need javac openjdk-17-jdk-headless || need javac default-jdk-headless || true
need cc gcc libc6-dev || true
need curl || true
# RUNLEVEL=1 keeps the package from starting a broker of its own.
RUNLEVEL=1 need /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server || true
need wrk || true
need h2load nghttp2-client || true
need docker-compose docker-compose || true
need chromium chromium fonts-dejavu-core || true
setup_python load,docker,policy,report,test,dev

if [ $# -gt 0 ]; then exec "$VENV/bin/python" -m pytest "$@"; fi

say "ruff"; "$VENV/bin/ruff" check .
say "mypy"; "$VENV/bin/mypy"
say "pytest"
# Most tests wait for services, hosts and engines, so three workers share two CPUs well. Tests of one file share what they
# start, so they stay together; files go out in their order, because the slow ones are not those with the most tests.
workers=${STAGING_TEST_WORKERS:-3}
exec scripts/lib/steady.sh "$VENV/bin/python" -n "$workers" --dist loadfile --no-loadscope-reorder --durations=10
