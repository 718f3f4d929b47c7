#!/usr/bin/env bash
# Puts Compose v2 beside the docker client and prints the folder to set as DOCKER_CONFIG; nothing is installed. Where the
# client has it already, that folder is its own. Elsewhere the plugin is taken out of Debian's package; a release that
# has v1 only gets the next one's, which apt fetches and whose signature it checks.
#
#   STAGING_LAB_CACHE    where it is kept; default ~/.cache/staging-lab
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/lib/setup.sh
. "$ROOT/scripts/lib/setup.sh"

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
MIRROR=http://deb.debian.org/debian
RELEASE=trixie
PLUGIN=cli-plugins/docker-compose
HOME_CONFIG=$(cd ~ && pwd)/.docker
CACHE=${STAGING_LAB_CACHE:-$(cd ~ && pwd)/.cache/staging-lab}
CONFIG=$CACHE/compose-v2

# answers FOLDER: whether the docker client has Compose v2 with that configuration.
answers() { DOCKER_CONFIG=$1 timeout -k 1 20 docker compose version 2>/dev/null | grep -q 'Compose version v\?[2-9]'; }

command -v docker >/dev/null || die "there is no docker client: scripts/lab/start-engine.sh installs one"
for folder in "${DOCKER_CONFIG:-$HOME_CONFIG}" "$CONFIG"; do
  if answers "$folder"; then echo "$folder"; exit 0; fi
done
if ! command -v apt-get >/dev/null || [ ! -r "$KEYRING" ]; then
  die "Compose v2 is missing: docs.docker.com/compose/install says how"
fi

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$WORK/lists/partial" "$WORK/cache/archives/partial" "$CONFIG/cli-plugins"
echo "deb [signed-by=$KEYRING] $MIRROR $RELEASE main" >"$WORK/sources.list"
fetch() {
  (cd "$WORK" && timeout -k 10 180 apt-get -qq -o Dir::Etc::SourceList="$WORK/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$WORK/lists" -o Dir::Cache="$WORK/cache" -o APT::Sandbox::User="$(id -un)" "$@")
}
if ! { fetch update && fetch download docker-compose; } >"$WORK/apt.log" 2>&1; then
  tail -n 3 "$WORK/apt.log" >&2
  die "apt could not fetch Compose v2 from $MIRROR $RELEASE. Its last words are above"
fi
# Under its own name only when it is whole: two may do this at once.
dpkg-deb --fsys-tarfile "$WORK"/*.deb | tar -x -O ./usr/libexec/docker/cli-plugins/docker-compose >"$WORK/plugin"
chmod 755 "$WORK/plugin"
cp "$WORK/plugin" "$CONFIG/$PLUGIN.$$"
mv "$CONFIG/$PLUGIN.$$" "$CONFIG/$PLUGIN"
answers "$CONFIG" || die "the Compose that was fetched does not answer as v2: $CONFIG/$PLUGIN"
echo "$CONFIG"
