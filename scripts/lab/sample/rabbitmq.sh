#!/bin/sh
# What staging-lab/rabbitmq runs: settings from the environment, then the broker in place of this shell.
set -eu
: "${STAGING_RABBITMQ_USER:?must name the login}" "${STAGING_RABBITMQ_PASSWORD:?must hold the password}"
umask 077
cat >/etc/rabbitmq/rabbitmq.conf <<END
listeners.tcp.1 = 0.0.0.0:5672
management.tcp.ip = 0.0.0.0
management.tcp.port = 15672
default_user = $STAGING_RABBITMQ_USER
default_pass = $STAGING_RABBITMQ_PASSWORD
default_user_tags.administrator = true
loopback_users = none
collect_statistics_interval = 250
log.console = true
log.file = false
END
echo '[rabbitmq_management].' >/etc/rabbitmq/enabled_plugins
export RABBITMQ_NODENAME=staging@localhost RABBITMQ_MNESIA_BASE=/var/lib/rabbitmq/data RABBITMQ_LOG_BASE=/var/lib/rabbitmq/log
export RABBITMQ_CONFIG_FILE=/etc/rabbitmq/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=/etc/rabbitmq/enabled_plugins
export RABBITMQ_PID_FILE=/var/lib/rabbitmq/rabbitmq.pid
# An idle Erlang must not spin: what is measured runs beside it.
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none"
exec /usr/lib/rabbitmq/bin/rabbitmq-server
