#!/usr/bin/env bash
# Makes the images that deploy/compose.yaml needs besides the sample's own, out of this machine's packages; no registry is
# asked. An image that is there and was made from the same files is left alone.
#
#   staging-lab/rabbitmq:3     RabbitMQ with its management API; STAGING_RABBITMQ_USER and _PASSWORD are its login
#   staging-lab/prometheus:2   Prometheus
#   staging-lab/python:3       Python with the AMQP client pika, for the workers
#
# RabbitMQ, Python and busybox are installed through apt when this is root; the packages of Prometheus and pika are only
# fetched and unpacked, so that no second daemon comes to this machine.
#
#   STAGING_ENGINE_SOCKET    the engine's socket; default: DOCKER_HOST when it is a unix:// address, else the usual one
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/lab/lib/engine.sh
. "$ROOT/scripts/lab/lib/engine.sh"
# shellcheck source=scripts/lab/lib/rootfs.sh
. "$ROOT/scripts/lab/lib/rootfs.sh"

PACKAGES=(rabbitmq-server busybox-static python3)
FETCHED=(prometheus python3-pika)
LOGIN=$ROOT/scripts/lab/sample/rabbitmq.sh

has_packages() { [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && [ -x /usr/bin/python3 ] && busybox_path; } >/dev/null
busybox_path() { dpkg -L busybox-static 2>/dev/null | grep -m1 -x '.*/bin/busybox'; }

# candidate PACKAGE: the version that apt would fetch.
candidate() { apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ { print $2 }'; }

# made_from PACKAGE...: a digest of these scripts and of the versions of what is copied.
made_from() {
  { cat "$ROOT"/scripts/lab/sample-images.sh "$ROOT"/scripts/lab/lib/rootfs.sh "$LOGIN"; uname -m
    dpkg-query -W -f '${Package} ${Version}\n' libc6 busybox-static "$@"
    for package in "${FETCHED[@]}"; do echo "$package $(candidate "$package")"; done; } | sha256sum | cut -c1-32
}

# add_fetched ROOT_FS PACKAGE: what a package that is not installed holds outside /usr/share.
add_fetched() {
  local packed=$WORK/$2
  mkdir -p "$packed"
  if [ -z "$(candidate "$2")" ] && may_install; then timeout -k 10 120 apt-get update -qq; fi
  (cd "$packed" && timeout -k 10 120 apt-get download -qq "$2" >/dev/null 2>"$WORK/apt.log") ||
    { tail -n 3 "$WORK/apt.log" >&2; die "apt could not fetch $2. Its last words are above"; }
  dpkg-deb --fsys-tarfile "$packed"/*.deb |
    tar -x -C "$1" --keep-directory-symlink --exclude './usr/share/*' --exclude './lib/systemd/*' --exclude './var/*'
}

add_busybox() {
  local root_fs=$1 applet
  install -m 755 "$(busybox_path)" "$root_fs/usr/bin/busybox"
  for applet in $("$root_fs/usr/bin/busybox" --list); do
    [ -e "$root_fs/usr/bin/$applet" ] || [ -e "$root_fs/usr/sbin/$applet" ] || ln -s busybox "$root_fs/usr/bin/$applet"
  done
}

add_users() {
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$1/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
  printf 'hosts: files dns\n' >"$1/etc/nsswitch.conf"
}

fill_rabbitmq() {
  local root_fs=$1
  local packages
  mapfile -t packages < <(dpkg-query -W -f '${binary:Package} ${db:Status-Abbrev}\n' 'erlang-*' 2>/dev/null |
    awk '$2 == "ii" { print $1 }')
  add_users "$root_fs"
  add_files "$root_fs" rabbitmq-server "${packages[@]}"
  mapfile -t programs < <(find "$root_fs/usr/lib/erlang" -type f \( -name '*.so' -o -path '*/bin/*' -perm /100 \))
  add_needed "$root_fs" "${programs[@]}"
  add_busybox "$root_fs"
  install -D -m 755 "$LOGIN" "$root_fs/usr/bin/start-rabbitmq"
  mkdir -p "$root_fs/var/lib/rabbitmq" "$root_fs/etc/rabbitmq"
  chmod 777 "$root_fs/var/lib/rabbitmq" "$root_fs/etc/rabbitmq"
}

fill_prometheus() {
  add_users "$1"
  add_fetched "$1" prometheus
  rm -f "$1/usr/bin/promtool" "$1/usr/bin/tsdb"
  add_needed "$1" "$1/usr/bin/prometheus"
  add_busybox "$1"
  mkdir -p "$1/prometheus"
  chmod 777 "$1/prometheus"
}

fill_python() {
  local root_fs=$1 python
  add_users "$root_fs"
  python=$(/usr/bin/python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  add_files "$root_fs" "$python-minimal" "lib$python-minimal" "lib$python-stdlib"
  add_fetched "$root_fs" python3-pika
  mapfile -t libraries < <(find "$root_fs/usr/lib/$python/lib-dynload" -name '*.so')
  add_needed "$root_fs" "$root_fs/usr/bin/$python" "${libraries[@]}"
  ln -s "$python" "$root_fs/usr/bin/python3"
}

engine_version || die "no engine answers on $SOCKET ($NO_ANSWER). Start one with scripts/lab/start-engine.sh"
exec 9>>"${TMPDIR:-/tmp}/staging-lab-sample-images-$(id -u).lock"
flock -w 300 9 || die "another scripts/lab/sample-images.sh has been at work for 300 s"
command -v dpkg >/dev/null || die "these images are made from Debian packages, and this machine has no dpkg"
has_packages || install_packages "RabbitMQ, busybox or Python" "${PACKAGES[@]}"

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"; [ -z "$MAKING" ] || say "$MAKING could not be made: see above"' EXIT
trap 'exit 130' INT TERM HUP
digest=$(made_from "${PACKAGES[@]}" erlang-base)
make_image staging-lab/rabbitmq:3 "$digest" fill_rabbitmq "ENV PATH=/usr/lib/rabbitmq/bin:/usr/bin:/usr/sbin" \
  "ENV LANG=C.UTF-8" "ENV HOME=/var/lib/rabbitmq" "EXPOSE 5672 15672" "USER 65534:65534" 'ENTRYPOINT ["start-rabbitmq"]'
make_image staging-lab/prometheus:2 "$digest" fill_prometheus "ENV PATH=/usr/bin" "EXPOSE 9090" "USER 65534:65534" \
  'ENTRYPOINT ["prometheus"]'
make_image staging-lab/python:3 "$digest" fill_python "ENV PATH=/usr/bin" "ENV LANG=C.UTF-8" "ENV PYTHONUNBUFFERED=1"
