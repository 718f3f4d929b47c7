#!/usr/bin/env bash
# Makes the images of the lab's hosts out of this machine's own files; no registry is asked. A container of one acts as
# a machine of its own that is reached over SSH. An image that is there and was made from the same files is left alone.
#
#   staging-lab/host          sshd, bash, GNU tools, rsync, Python; what else a shell expects comes from busybox
#   staging-lab/host-engine   the same with a Docker engine of its own
#
# Give each host a loopback address of its own, and the public key that may log in as root:
#   docker run -d --init -p 127.0.1.5:22:22 -e STAGING_LAB_KEY="$(cat KEY.pub)" staging-lab/host
# The engine inside needs more rights, and a volume, because overlay does not lie on overlay:
#   --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add NET_RAW --security-opt seccomp=unconfined
#   --security-opt apparmor=unconfined -v /var/lib/docker
#
#   STAGING_LAB_KEY          (in the container) lines for root's authorized_keys
#   STAGING_LAB_SSHD         (in the container) lines that come first in sshd_config, and so win
#   STAGING_ENGINE_SOCKET    the engine's socket; default: DOCKER_HOST when it is a unix:// address, else the usual one
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/lab/lib/engine.sh
. "$ROOT/scripts/lab/lib/engine.sh"
# shellcheck source=scripts/lab/lib/rootfs.sh
. "$ROOT/scripts/lab/lib/rootfs.sh"

HOST_PACKAGES=(openssh-server openssh-client rsync busybox-static python3 iptables)
ENGINE_PACKAGES=(docker.io containerd runc iptables)
TOOLS=(bash dash tar gzip grep find xargs sed sort cat head tail tee tr cut wc cp mv rm mkdir rmdir ln chmod chown stat
  readlink sha256sum env sleep df du touch dd setsid flock nice timeout mktemp date id uname nproc)
SSH_TOOLS=(sshd ssh ssh-keygen rsync)
ENGINE_TOOLS=(dockerd containerd containerd-shim-runc-v2 runc docker-proxy docker-init mount umount)

has_host_tools() { command -v sshd && command -v ssh && command -v rsync && busybox_path && [ -x /usr/bin/python3 ]; } >/dev/null
has_engine_tools() { command -v dockerd && command -v runc && command -v iptables && [ -x /usr/bin/docker ]; } >/dev/null
busybox_path() { dpkg -L busybox-static 2>/dev/null | grep -m1 -x '.*/bin/busybox'; }

# made_from PACKAGE...: a digest of these scripts and of the versions of what is copied.
made_from() {
  { cat "$ROOT"/scripts/lab/hosts.sh "$ROOT"/scripts/lab/lib/rootfs.sh "$ROOT"/scripts/lab/host/*; uname -m
    dpkg-query -W -f '${Package} ${Version}\n' libc6 bash coreutils tar "$@"; } | sha256sum | cut -c1-32
}

fill_host() {
  local root_fs=$1 applet python
  add_programs "$root_fs" "${TOOLS[@]}" "${SSH_TOOLS[@]}"
  ln -s dash "$root_fs/usr/bin/sh"
  # Newer versions of sshd are several programs.
  if [ -d /usr/lib/openssh ]; then
    install -D -t "$root_fs/usr/lib/openssh" /usr/lib/openssh/*
    add_needed "$root_fs" /usr/lib/openssh/*
  fi
  python=$(/usr/bin/python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  add_files "$root_fs" "$python-minimal" "lib$python-minimal" "lib$python-stdlib"
  mapfile -t libraries < <(find "$root_fs/usr/lib/$python/lib-dynload" -name '*.so')
  add_needed "$root_fs" "$root_fs/usr/bin/$python" "${libraries[@]}"
  ln -s "$python" "$root_fs/usr/bin/python3"
  install -m 755 "$(busybox_path)" "$root_fs/usr/bin/busybox"
  for applet in $("$root_fs/usr/bin/busybox" --list); do
    [ -e "$root_fs/usr/bin/$applet" ] || [ -e "$root_fs/usr/sbin/$applet" ] || ln -s busybox "$root_fs/usr/bin/$applet"
  done
  mkdir -p "$root_fs"/etc/ssh "$root_fs"/root/.ssh "$root_fs"/run/sshd "$root_fs"/sys/fs/cgroup
  chmod 700 "$root_fs/root/.ssh"
  install -m 644 "$ROOT"/scripts/lab/host/{passwd,group,nsswitch.conf} "$root_fs/etc"
  install -m 600 "$ROOT/scripts/lab/host/shadow" "$root_fs/etc"
  install -m 600 "$ROOT/scripts/lab/host/sshd_config" "$root_fs/etc/ssh"
  install -m 755 "$ROOT/scripts/lab/host/init.sh" "$root_fs/init.sh"
}

fill_host_engine() {
  local root_fs=$1 plugins
  fill_host "$root_fs"
  rm -f "$root_fs"/usr/bin/{mount,umount}
  add_programs "$root_fs" "${ENGINE_TOOLS[@]}"
  # The distribution's client: another in PATH may be too new for the engine.
  install -m 755 /usr/bin/docker "$root_fs/usr/bin/docker"
  add_needed "$root_fs" /usr/bin/docker
  install -m 755 "$(readlink -f "$(command -v iptables)")" "$root_fs/usr/sbin/"
  for plugins in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -sf "$(basename "$(readlink -f "$(command -v iptables)")")" "$root_fs/usr/sbin/$plugins"
  done
  add_needed "$root_fs" "$(readlink -f "$(command -v iptables)")"
  plugins=$(dirname "$(dpkg -L iptables | grep -m1 '/xtables/.*\.so$')")
  install -D -t "$root_fs$plugins" "$plugins"/*.so
}

engine_version || die "no engine answers on $SOCKET ($NO_ANSWER). Start one with scripts/lab/start-engine.sh"
exec 9>>"${TMPDIR:-/tmp}/staging-lab-hosts-$(id -u).lock"
flock -w 300 9 || die "another scripts/lab/hosts.sh has been at work for 300 s"
command -v dpkg >/dev/null || die "the hosts' images are made from Debian packages, and this machine has no dpkg"
has_host_tools || install_packages "what an SSH host consists of" "${HOST_PACKAGES[@]}"
has_engine_tools || install_packages "what an SSH host with an engine consists of" "${ENGINE_PACKAGES[@]}"

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"; [ -z "$MAKING" ] || say "$MAKING could not be made: see above"' EXIT
trap 'exit 130' INT TERM HUP
settings=("ENV PATH=/usr/local/bin:/usr/bin:/usr/sbin" 'CMD ["/init.sh"]')
make_image staging-lab/host "$(made_from openssh-server rsync busybox-static)" fill_host "${settings[@]}"
make_image staging-lab/host-engine "$(made_from openssh-server rsync busybox-static docker.io runc iptables)" \
  fill_host_engine "${settings[@]}"
