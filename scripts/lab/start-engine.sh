#!/usr/bin/env bash
# Starts a real Docker engine where no init system does, and prints `ready VERSION`. Safe to call again, also from two
# places at once: an engine that answers is left as it is. Missing packages are installed when this is root and has apt.
#
#   STAGING_ENGINE_SOCKET    the engine's socket; default: DOCKER_HOST when it is a unix:// address, else the usual one
#   STAGING_ENGINE_DATA      where images and containers lie; default /var/lib/docker
#   STAGING_ENGINE_RUN       its run-time files; default /var/run/docker, or beside another socket than the usual one
#   STAGING_ENGINE_LOG       default /var/log/staging-engine.log
#   STAGING_ENGINE_OPTIONS   more options for dockerd, separated by spaces
#   STAGING_ENGINE_TIMEOUT_S how long it may take to answer; default 60
#
# Two engines would share one bridge and one set of firewall rules, and --bridge=none in the second even removes the
# first one's bridge. Give a second engine a network of its own: unshare --net scripts/lab/start-engine.sh
# To stop it: kill "$(cat RUN.pid)", by default /var/run/docker.pid.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/lab/lib/engine.sh
. "$ROOT/scripts/lab/lib/engine.sh"

DATA=${STAGING_ENGINE_DATA:-/var/lib/docker}
if [ "$SOCKET" = "$DEFAULT_SOCKET" ]; then RUN=/var/run/docker; else RUN=${SOCKET%.sock}-run; fi
RUN=${STAGING_ENGINE_RUN:-$RUN}
PID_FILE=$RUN.pid
LOG=${STAGING_ENGINE_LOG:-/var/log/staging-engine.log}
TIMEOUT_S=${STAGING_ENGINE_TIMEOUT_S:-60}
read -r -a OPTIONS <<<"${STAGING_ENGINE_OPTIONS:-}"

leave_when_ready() { if engine_version; then echo "ready $ENGINE_VERSION"; exit 0; fi; }

fail() {
  if [ -s "$LOG" ]; then say "the last lines of $LOG:"; tail -n 8 "$LOG" >&2; fi
  die "$*"
}

# An init that reaps late leaves zombies, and `kill -0` takes them for alive.
lives() {
  local state
  state=$(awk '/^State:/ { print $2 }' "/proc/$1/status" 2>/dev/null) && [ -n "$state" ] && [[ $state != [ZX] ]]
}

# runs PID NAME: the number alone may by now belong to somebody else.
runs() { [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ] && lives "$1"; }

# wait_for PID: prints `ready VERSION` and leaves, or returns when the process is gone (1) or the deadline is over (2).
wait_for() {
  local until=$((SECONDS + TIMEOUT_S))
  while [ "$SECONDS" -lt "$until" ]; do
    leave_when_ready
    lives "$1" || return 1
    sleep 0.1
  done
  return 2
}

# Pid files outlive an engine's sudden death, and dockerd refuses to start beside one whose number is taken.
drop_stale_pid_files() {
  local pid
  pid=$(cat "$PID_FILE" 2>/dev/null || true)
  if [ -n "$pid" ] && runs "$pid" dockerd; then # somebody's, perhaps still starting
    wait_for "$pid" || fail "dockerd runs as process $pid, but $SOCKET does not answer: $NO_ANSWER"
  fi
  rm -f "$PID_FILE"
  pid=$(cat "$RUN/containerd/containerd.pid" 2>/dev/null || true)
  if [ -n "$pid" ] && ! runs "$pid" containerd; then rm -f "$RUN/containerd/containerd.pid"; fi
}

mount_cgroups() {
  local controller folder=/sys/fs/cgroup
  if grep -qE '^[^ ]+ [^ ]+ cgroup2? ' /proc/mounts; then return 0; fi
  say "no control groups are mounted: mounting them on $folder"
  if mount -t cgroup2 cgroup2 "$folder" 2>/dev/null; then
    if grep -qw memory "$folder/cgroup.controllers"; then return 0; fi
    umount "$folder" # the controllers are bound to version 1
  fi
  mount -t tmpfs -o mode=755 cgroup "$folder" 2>/dev/null ||
    die "control groups cannot be mounted: CAP_SYS_ADMIN is needed"
  awk '!/^#/ && $4 == 1 { print $1 }' /proc/cgroups | while read -r controller; do
    mkdir -p "$folder/$controller"
    mount -t cgroup -o "$controller" cgroup "$folder/$controller" 2>/dev/null || rmdir "$folder/$controller"
  done
  [ -d "$folder/memory" ] || die "the memory control group cannot be mounted on $folder"
}

# Kernels without nftables refuse Debian's default. Without any, the engine's own proxy still publishes ports.
choose_firewall() {
  case " ${OPTIONS[*]} " in *" --iptables=false "*) return ;; esac
  if timeout 30 iptables -w 20 -t nat -L -n >/dev/null 2>&1; then return; fi
  if timeout 30 iptables-legacy -w 20 -t nat -L -n >/dev/null 2>&1 &&
    update-alternatives --set iptables "$(command -v iptables-legacy)" >/dev/null 2>&1; then
    say "this kernel has no nftables: iptables now means iptables-legacy"
  else
    say "iptables has no nat table here: ports are published by docker-proxy, and containers cannot reach other hosts"
    OPTIONS+=(--iptables=false)
  fi
}

leave_when_ready
[ "$(uname -s)" = Linux ] || die "an engine needs Linux, and this is $(uname -s)"
[ "$(id -u)" = 0 ] || die "no engine answers on $SOCKET ($NO_ANSWER), and starting one needs root"
mkdir -p "$(dirname "$SOCKET")" "$RUN" "$DATA" "$(dirname "$LOG")"
exec 9>"$RUN.lock"
flock -w "$((TIMEOUT_S + 60))" 9 || die "another start has held $RUN.lock for too long"
leave_when_ready

packages=(docker.io iptables)
if ! command -v docker >/dev/null && apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
if ! { command -v dockerd && command -v iptables && command -v docker; } >/dev/null; then
  install_packages "a Docker engine" "${packages[@]}" 9>&-
  hash -r
fi
grep -qw overlay /proc/filesystems || timeout 10 modprobe overlay 2>/dev/null || die "the kernel lacks overlayfs"
drop_stale_pid_files
mount_cgroups
choose_firewall

say "starting dockerd; its log is $LOG"
setsid dockerd -H "unix://$SOCKET" --data-root "$DATA" --exec-root "$RUN" --pidfile "$PID_FILE" \
  ${OPTIONS[@]+"${OPTIONS[@]}"} >"$LOG" 2>&1 </dev/null 9>&- &
engine_pid=$!
gone=0
wait_for "$engine_pid" || gone=$?
if [ "$gone" = 1 ]; then fail "dockerd ended at once"; fi
kill "$engine_pid" 2>/dev/null || true
fail "dockerd did not answer within $TIMEOUT_S s: $NO_ANSWER"
