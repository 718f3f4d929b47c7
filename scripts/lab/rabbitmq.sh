#!/usr/bin/env bash
# Starts a real RabbitMQ with its management API on loopback, and prints `ready URL AMQP_PORT`. No init system is needed.
# Safe to call again, also from two places at once: a broker that answers is left as it is. The package is installed when
# this is root and has apt.
#
#   STAGING_RABBITMQ_PORT      the broker's AMQP port; default 25679
#   STAGING_RABBITMQ_API_PORT  the management API's port; default 25680
#   STAGING_RABBITMQ_FOLDER    everything that it writes; default staging-rabbitmq-UID in the temporary folder
#   STAGING_RABBITMQ_USER, STAGING_RABBITMQ_PASSWORD   default staging, staging-lab
#   STAGING_RABBITMQ_TIMEOUT_S how long it may take to answer; default 60
#
# `scripts/lab/rabbitmq.sh stop` with the same settings ends it, and waits for that.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/lib/setup.sh
. "$ROOT/scripts/lib/setup.sh"

PORT=${STAGING_RABBITMQ_PORT:-25679}
API_PORT=${STAGING_RABBITMQ_API_PORT:-25680}
FOLDER=${STAGING_RABBITMQ_FOLDER:-${TMPDIR:-/tmp}/staging-rabbitmq-$(id -u)}
LOGIN=${STAGING_RABBITMQ_USER:-staging}
PASSWORD=${STAGING_RABBITMQ_PASSWORD:-staging-lab}
TIMEOUT_S=${STAGING_RABBITMQ_TIMEOUT_S:-60}
URL=http://127.0.0.1:$API_PORT
PID_FILE=$FOLDER/broker.pid
# Debian's program of that name changes to another user when it is root's; this one does not.
SERVER=/usr/lib/rabbitmq/bin/rabbitmq-server

# The password goes in through a pipe: arguments are everybody's to see.
answers() {
  printf 'user = "%s:%s"\n' "$LOGIN" "$PASSWORD" |
    curl -fsS -m 5 -K - -o /dev/null "$URL/api/overview" 2>/dev/null
}

leave_when_ready() { if answers; then echo "ready $URL $PORT"; exit 0; fi; }

# An init that reaps late leaves zombies, and `kill -0` takes them for alive.
lives() {
  local state
  state=$(awk '/^State:/ { print $2 }' "/proc/$1/status" 2>/dev/null) && [ -n "$state" ] && [[ $state != [ZX] ]]
}

# The number alone may by now belong to somebody else.
broker_pid() {
  local pid
  pid=$(cat "$PID_FILE" 2>/dev/null) && grep -qaF "$FOLDER" "/proc/$pid/environ" 2>/dev/null && lives "$pid" && echo "$pid"
}

stop_broker() {
  local pid until=$((SECONDS + TIMEOUT_S))
  if pid=$(broker_pid); then
    kill "$pid" 2>/dev/null || true
    while lives "$pid"; do
      [ "$SECONDS" -lt "$until" ] || { say "the broker does not end by itself"; kill -9 -- "-$pid"; break; }
      sleep 0.1
    done
  fi
  # Erlang's name server outlives it.
  ERL_EPMD_PORT=$((API_PORT + 2)) timeout 10 epmd -kill >/dev/null 2>&1 || true
  rm -f "$PID_FILE"
  echo stopped
}

write_settings() {
  cat >"$FOLDER/rabbitmq.conf" <<END
listeners.tcp.1 = 127.0.0.1:$PORT
management.tcp.ip = 127.0.0.1
management.tcp.port = $API_PORT
default_user = $LOGIN
default_pass = $PASSWORD
default_user_tags.administrator = true
collect_statistics_interval = 250
END
  echo '[rabbitmq_management].' >"$FOLDER/enabled_plugins"
}

if [ "${1:-}" = stop ]; then stop_broker; exit 0; fi
need curl curl || die "curl is needed"
leave_when_ready
install -d -m 700 "$FOLDER"
exec 9>"$FOLDER/start.lock"
flock -w "$((TIMEOUT_S + 60))" 9 || die "another start has held $FOLDER/start.lock for too long"
leave_when_ready
# RUNLEVEL=1 keeps the package from starting a broker of its own.
if [ ! -x "$SERVER" ]; then RUNLEVEL=1 need "$SERVER" rabbitmq-server 9>&- || die "RabbitMQ is needed"; fi
if pid=$(broker_pid); then
  die "a broker runs as process $pid, and $URL does not answer; see $FOLDER/log. To end it: scripts/lab/rabbitmq.sh stop"
fi
write_settings

say "starting RabbitMQ; its log is in $FOLDER/log"
env HOME="$FOLDER" \
  RABBITMQ_NODENAME="staging$API_PORT@localhost" RABBITMQ_DIST_PORT="$((API_PORT + 1))" \
  ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$((API_PORT + 2))" \
  RABBITMQ_MNESIA_BASE="$FOLDER/data" RABBITMQ_LOG_BASE="$FOLDER/log" RABBITMQ_PID_FILE="$FOLDER/rabbitmq.pid" \
  RABBITMQ_CONFIG_FILE="$FOLDER/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$FOLDER/enabled_plugins" \
  RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none" \
  setsid "$SERVER" >"$FOLDER/start.log" 2>&1 </dev/null 9>&- &
pid=$!
echo "$pid" >"$PID_FILE"
until=$((SECONDS + TIMEOUT_S))
while [ "$SECONDS" -lt "$until" ]; do
  leave_when_ready
  lives "$pid" || { tail -n 8 "$FOLDER/start.log" >&2; die "RabbitMQ ended at once; its last words are above"; }
  sleep 0.2
done
stop_broker >/dev/null
die "RabbitMQ did not answer on $URL within $TIMEOUT_S s; see $FOLDER/log"
