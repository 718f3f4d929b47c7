#!/bin/sh
# What a lab host starts with. sshd comes back when it is killed, as it does under an init system.
umask 022
[ -f /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
[ -f /etc/ssh/ssh_host_rsa_key ] || ssh-keygen -q -t rsa -b 2048 -N '' -f /etc/ssh/ssh_host_rsa_key
if [ -n "${STAGING_LAB_KEY:-}" ]; then
  printf '%s\n' "$STAGING_LAB_KEY" >/root/.ssh/authorized_keys
  chmod 600 /root/.ssh/authorized_keys
fi
if [ -n "${STAGING_LAB_SSHD:-}" ]; then
  { printf '%s\n' "$STAGING_LAB_SSHD"; cat /etc/ssh/sshd_config; } >/etc/ssh/sshd_config.new
  mv /etc/ssh/sshd_config.new /etc/ssh/sshd_config
fi
unset STAGING_LAB_KEY STAGING_LAB_SSHD
if command -v dockerd >/dev/null; then
  mount -o remount,rw,bind /sys/fs/cgroup
  for group in /sys/fs/cgroup/*/; do mount -o remount,rw,bind "$group" 2>/dev/null; done
  dockerd >/var/log/dockerd.log 2>&1 </dev/null &
fi
while :; do
  /usr/sbin/sshd -D -e
  sleep 0.1
done
