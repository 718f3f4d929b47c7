# shellcheck shell=bash disable=SC2034
# Sourced by the scripts of the lab: where the engine is, how to ask it something, and how to install what is missing.
# Nothing here waits without a deadline.
#
#   STAGING_ENGINE_SOCKET    the engine's socket; default: DOCKER_HOST when it is a unix:// address, else the usual one

# shellcheck source=scripts/lib/setup.sh
. "$ROOT/scripts/lib/setup.sh"
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # an engine looks there for docker-proxy and iptables

DEFAULT_SOCKET=/var/run/docker.sock
SOCKET=${STAGING_ENGINE_SOCKET:-}
if [ -z "$SOCKET" ]; then
  case ${DOCKER_HOST:-} in
    '') SOCKET=$DEFAULT_SOCKET ;;
    unix://*) SOCKET=${DOCKER_HOST#unix://} ;;
    *) die "DOCKER_HOST is $DOCKER_HOST, but the lab needs a local engine: unset it, or set STAGING_ENGINE_SOCKET" ;;
  esac
fi

# Sets CLIENT and ENGINE_VERSION, or fails with the reason in NO_ANSWER. One client in PATH may be too new for the
# distribution's engine, so the first that gets an answer is taken.
engine_version() {
  local client answer why="no docker client in PATH"
  for client in "$(command -v docker)" /usr/bin/docker; do
    [ -x "$client" ] || continue
    if answer=$(timeout -k 1 10 "$client" -H "unix://$SOCKET" version -f '{{.Server.Version}}' 2>&1); then
      CLIENT=$client
      ENGINE_VERSION=${answer##*$'\n'}
      return 0
    fi
    why=${answer##*$'\n'}
  done
  ENGINE_VERSION=
  NO_ANSWER=$why
  return 1
}

# engine SECONDS ARGUMENT...: the client with a deadline; the caller called engine_version before.
engine() {
  local seconds=$1; shift
  DOCKER_CONTEXT='' DOCKER_HOST="unix://$SOCKET" timeout -k 5 "$seconds" "$CLIENT" "$@"
}

# install_packages WHAT PACKAGE...: through apt, or one message that names the packages.
install_packages() {
  local what=$1 log; shift
  may_install || die "$what is missing. Install it, on Debian with: sudo apt-get install --no-install-recommends $*"
  say "$what is missing: installing through apt: $*"
  log=$(mktemp)
  # RUNLEVEL=1 keeps a package from starting its service: the engine is started by us, with our settings, or not at all.
  if ! { RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive timeout -k 10 120 apt-get update -qq &&
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive timeout -k 10 600 apt-get install -y -qq --no-install-recommends \
      -o DPkg::Lock::Timeout=120 "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    rm -f "$log"
    die "apt could not install $*. Its last words are above"
  fi
  rm -f "$log"
}
