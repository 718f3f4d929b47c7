# shellcheck shell=bash
# Sourced by scripts/e2e-k3s-helm.sh: its settings, the VM, the SSH connection, and an orderly end. Commands run in the
# VM over SSH only; every wait has a deadline; whatever is sent there is quoted or goes through standard input.

# shellcheck source=scripts/lib/setup.sh
. "$ROOT/scripts/lib/setup.sh"

fail() { say "$*"; exit 1; }

export LC_ALL=C # patterns mean ASCII, and what programs say can be recognised
DEPLOY_MARK=STAGING_K3S_DEPLOY
# shellcheck disable=SC2034 # named in FOR_HOST
RELEASE=staging # one to a namespace
CHILD='' UNDO='' UNTAG='' MASTER='' MARKED=''
# What the functions in e2e-k3s-host.sh read.
FOR_HOST=(NAMESPACE RELEASE DEPLOY_MARK E2E_VM_HOME E2E_KUBECONFIG_PATH E2E_REMOTE_PROJECT_DIR E2E_REMOTE_PATH
  E2E_REMOTE_SUDO E2E_CGROUP_ROOT E2E_DEPLOY_TIMEOUT_S E2E_DESTROY_TIMEOUT_S STAGING_DOCKERFILE)

# --- settings -------------------------------------------------------------------------------------------------------

# require NAME MEANING: one line that names what is missing.
require() { [ -n "${!1:-}" ] || die "$1 is not set: $2"; }

# number NAME DEFAULT: whole, above 0.
number() {
  printf -v "$1" %s "${!1:-$2}"
  [[ ${!1} =~ ^[1-9][0-9]{0,5}$ ]] || die "$1 is '${!1}', and a whole number above 0 is needed"
}

absolute() { [[ ${!1} == /* ]] || die "$1 is '${!1}', and a path that begins with / is needed"; }

# one_of NAME DEFAULT VALUE...
one_of() {
  local name=$1 value
  printf -v "$name" %s "${!name:-$2}"
  shift 2
  for value in "$@"; do [ "${!name}" != "$value" ] || return 0; done
  die "$name is '${!name}', and one of these is needed: $*"
}

read_settings() {
  one_of E2E_VM_LIFECYCLE external external multipass
  if [ "$E2E_VM_LIFECYCLE" = external ]; then
    require E2E_VM_HOST "the host's address or name for ssh"
  else
    require E2E_VM_NAME "the VM's name for multipass"
    # Nothing else tells a VM that may be deleted here from one that is somebody's.
    [[ $E2E_VM_NAME =~ ^staging-[A-Za-z0-9-]{1,40}$ ]] ||
      die "E2E_VM_NAME is '$E2E_VM_NAME', and the names of VMs that are made and deleted here begin with 'staging-'"
    E2E_VM_HOST=
  fi
  require E2E_VM_USER "who logs in on the host"
  require E2E_VM_HOME "that user's home folder on the host"
  require E2E_SSH_KEY "the private key's file on this machine"
  require E2E_KUBECONFIG_PATH "the cluster's kubeconfig file on the host"
  require E2E_REMOTE_PROJECT_DIR "a folder on the host in which files may be put"
  require NAMESPACE "the Kubernetes namespace of this deploy"
  read_paths_and_names
  read_limits
}

read_paths_and_names() {
  local name
  for name in E2E_VM_HOME E2E_KUBECONFIG_PATH E2E_REMOTE_PROJECT_DIR E2E_SSH_KEY; do absolute "$name"; done
  [ -r "$E2E_SSH_KEY" ] || die "E2E_SSH_KEY is '$E2E_SSH_KEY', and there is no file that can be read"
  [[ $E2E_VM_HOST =~ ^[A-Za-z0-9_.:%-]*$ && $E2E_VM_HOST != -* ]] ||
    die "E2E_VM_HOST is '$E2E_VM_HOST', and an address or a name is needed"
  [[ $E2E_VM_USER =~ ^[A-Za-z0-9_][A-Za-z0-9_.@-]*$ ]] || die "E2E_VM_USER is '$E2E_VM_USER', and a user's name is needed"
  [[ $NAMESPACE =~ ^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$ ]] ||
    die "NAMESPACE is '$NAMESPACE', and Kubernetes takes small letters, digits and '-' only, 63 at most"
}

read_limits() {
  [ -z "${E2E_SSH_PORT:-}" ] || number E2E_SSH_PORT 22
  number E2E_CONNECT_TIMEOUT_S 10
  number E2E_COMMAND_TIMEOUT_S 60
  number E2E_DEPLOY_TIMEOUT_S 180
  number E2E_DESTROY_TIMEOUT_S 90
  number E2E_IMAGE_TIMEOUT_S 900
  number E2E_VM_TIMEOUT_S 600
  one_of E2E_SSH_ACCEPT_NEW 0 0 1
  one_of E2E_SSH_MULTIPLEX 1 0 1
  one_of E2E_REMOTE_SUDO 0 0 1
  E2E_REMOTE_PATH=${E2E_REMOTE_PATH:-}
  E2E_CGROUP_ROOT=${E2E_CGROUP_ROOT:-/sys/fs/cgroup}
  STAGING_DOCKERFILE=${STAGING_DOCKERFILE:-Dockerfile}
}

# --- an orderly end ---------------------------------------------------------------------------------------------------

# begin: a folder for this run, and the clean-up of everything that it begins.
begin() {
  local place=${TMPDIR:-/tmp}
  # ssh expands some characters in paths, and a socket's path must be short.
  [[ $place =~ ^/[A-Za-z0-9/_.-]{0,60}$ ]] || place=/tmp
  umask 077 # what the service is given may be nobody else's to read
  WORK=$(mktemp -d "$place/staging-k3s.XXXXXX") || die "no folder can be made in $place"
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
}

finish() {
  local status=$?
  # What follows is bounded, and half of it would leave the other half behind.
  trap '' INT TERM HUP
  trap - EXIT
  set +e
  end_child
  if [ -n "$UNDO" ]; then
    say "removing what was begun in namespace $NAMESPACE"
    remove_cell || say "not everything could be removed. Run again: scripts/e2e-k3s-helm.sh destroy"
  fi
  [ -z "$UNTAG" ] || timeout -k 5 30 docker image rm "$UNTAG" >/dev/null 2>&1 </dev/null
  close_connection
  rm -rf -- "$WORK"
  exit "$status"
}

# attend COMMAND...: runs it so that a signal to this script counts at once; bash would first wait for the command's end.
attend() {
  local status=0
  "$@" <&0 &
  CHILD=$!
  wait "$CHILD" || status=$?
  CHILD=''
  return "$status"
}

end_child() {
  [ -n "$CHILD" ] || return 0
  kill -TERM "$CHILD" 2>/dev/null
  wait "$CHILD" 2>/dev/null
  CHILD=''
}

# needs PROGRAM WHAT: on this machine.
needs() { command -v "$1" >/dev/null || die "$1 is missing on this machine: install $2"; }

# --- the connection ---------------------------------------------------------------------------------------------------

set_ssh_options() {
  local checking=yes
  [ "$E2E_SSH_ACCEPT_NEW" = 0 ] || checking=accept-new
  # Through links, because ssh expands '%' and '${' in the names that it is given.
  ln -sfn -- "$E2E_SSH_KEY" "$WORK/key"
  SSH=(ssh -T -i "$WORK/key" -l "$E2E_VM_USER"
    -o BatchMode=yes -o IdentitiesOnly=yes -o "StrictHostKeyChecking=$checking" -o UpdateHostKeys=no
    -o "ConnectTimeout=$E2E_CONNECT_TIMEOUT_S" -o ServerAliveInterval=5 -o ServerAliveCountMax=3
    -o LogLevel=ERROR -o ForwardAgent=no -o ForwardX11=no -o ClearAllForwardings=yes -o PermitLocalCommand=no)
  [ -z "${E2E_SSH_PORT:-}" ] || SSH+=(-p "$E2E_SSH_PORT")
  if [ -n "${E2E_SSH_KNOWN_HOSTS:-}" ]; then
    absolute E2E_SSH_KNOWN_HOSTS
    ln -sfn -- "$E2E_SSH_KNOWN_HOSTS" "$WORK/known_hosts"
    SSH+=(-o "UserKnownHostsFile=$WORK/known_hosts" -o GlobalKnownHostsFile=/dev/null)
  fi
}

# try_connection: fails with ssh's words in $WORK/ssh. With E2E_SSH_MULTIPLEX=1 it stays for all that follows; one that
# this script cannot close any more closes itself.
try_connection() {
  local how=(true)
  if [ "$E2E_SSH_MULTIPLEX" = 1 ]; then how=(); set -- -M -N -f -o ControlPersist=60 -o "ControlPath=$WORK/mux"; fi
  attend timeout -k 5 $((E2E_CONNECT_TIMEOUT_S + 20)) "${SSH[@]}" "$@" -- "$E2E_VM_HOST" ${how[@]+"${how[@]}"} \
    >/dev/null 2>"$WORK/ssh" </dev/null || return
  [ "$E2E_SSH_MULTIPLEX" = 0 ] || { MASTER=1; SSH+=(-o ControlMaster=no -o "ControlPath=$WORK/mux"); }
}

connect() {
  local status=0
  needs ssh "OpenSSH's client"
  set_ssh_options
  [ "$E2E_VM_LIFECYCLE" = external ] || find_vm
  try_connection || status=$?
  [ "$status" = 0 ] || refuse_connection "$status"
}

refuse_connection() {
  local why where="$E2E_VM_USER@$E2E_VM_HOST${E2E_SSH_PORT:+ port $E2E_SSH_PORT}"
  # ssh ends some of its lines with a carriage return.
  why=$(tr -d '\r' <"$WORK/ssh" | grep -v '^ *$' | tail -n 1)
  [ "$1" != 124 ] || why="no answer in time"
  case $(cat "$WORK/ssh") in
    *"REMOTE HOST IDENTIFICATION HAS CHANGED"*)
      die "$where has another host key than the known one. If that is right: ssh-keygen -R with the host's name" ;;
    *"Host key verification failed"*)
      die "$where has a host key that is not known. Add it to known_hosts after looking at it, or set E2E_SSH_ACCEPT_NEW=1" ;;
    *"Permission denied"*) die "$where does not take the key $E2E_SSH_KEY: $why" ;;
  esac
  fail "$where cannot be reached by SSH: ${why:-ssh ended with status $1}"
}

close_connection() {
  [ -n "$MASTER" ] || return 0
  timeout -k 1 5 "${SSH[@]}" -O exit -- "$E2E_VM_HOST" >/dev/null 2>&1 </dev/null
}

# on_host SECONDS FUNCTION ARGUMENT...: a function of e2e-k3s-host.sh, there; our standard input becomes its own.
# The login shell, whichever it is, sees constants only.
on_host() {
  local seconds=$1 mark='' status=0
  shift
  [ -z "$MARKED" ] || mark="env $DEPLOY_MARK=$NAMESPACE "
  attend timeout -k 5 $((seconds + 20)) "${SSH[@]}" -- "$E2E_VM_HOST" "${mark}timeout -k 5 $seconds bash --norc -s" \
    < <(host_program "$@"; cat) || status=$?
  case $status in
    124) say "$1 did not end within $seconds s on $E2E_VM_HOST" ;;
    127) say "$E2E_VM_HOST has no bash or no timeout (coreutils)" ;;
    255) say "the connection to $E2E_VM_HOST was lost" ;;
  esac
  return "$status"
}

host_program() {
  local name
  for name in "${FOR_HOST[@]}"; do printf '%s=%q\n' "$name" "${!name}"; done
  cat -- "$ROOT/scripts/lib/e2e-k3s-host.sh"
  # In one line: bash reads no further than that, so what comes next is the function's.
  printf '%q ' "$@"
  printf '; exit $?\n'
}

# ask_host SECONDS FUNCTION ARGUMENT...: its answers can then be read with `answer NAME`.
ask_host() { : >"$WORK/answer" && on_host "$@" >"$WORK/answer"; }
answer() { sed -n "s/^staging:$1=//p" "$WORK/answer" | tail -n 1; }

# require_on_host PROGRAM...: and a kubeconfig that can be read there.
require_on_host() {
  local missing
  ask_host "$E2E_COMMAND_TIMEOUT_S" host_check "$@" </dev/null || fail "$E2E_VM_HOST could not be looked at"
  missing=$(answer missing)
  case $missing in
    '') ;;
    k3s) die "k3s is missing on $E2E_VM_HOST: install it as https://docs.k3s.io says, or name its folder in E2E_REMOTE_PATH" ;;
    helm) die "helm is missing on $E2E_VM_HOST: install it as https://helm.sh/docs says, or name its folder in E2E_REMOTE_PATH" ;;
    kubectl) die "kubectl is missing on $E2E_VM_HOST: k3s brings it; link it to k3s, or name its folder in E2E_REMOTE_PATH" ;;
    docker) die "docker is missing on $E2E_VM_HOST: install it there (on Debian: apt-get install docker.io), or use E2E_IMAGE_SOURCE=ship" ;;
    *) die "$missing is missing on $E2E_VM_HOST: install it there, or name its folder in E2E_REMOTE_PATH" ;;
  esac
  [ -z "$(answer no_sudo)" ] || die "$E2E_VM_USER may not use sudo without a password on $E2E_VM_HOST: allow it, or leave E2E_REMOTE_SUDO out"
  [ -z "$(answer no_kubeconfig)" ] ||
    die "E2E_KUBECONFIG_PATH is '$E2E_KUBECONFIG_PATH', and $E2E_VM_USER cannot read that on $E2E_VM_HOST"
}

# --- a VM of multipass: made, found, deleted; whatever runs in it runs over SSH ------------------------------------------

# vm_field NAME: one column of what multipass says about the VM; fails when there is no such VM.
vm_field() {
  attend timeout -k 5 60 multipass info "$E2E_VM_NAME" --format csv >"$WORK/vm" 2>"$WORK/vm-error" </dev/null || return
  awk -F , -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) column = i }
    NR == 2 && column { print $column }' "$WORK/vm"
}

find_vm() {
  needs multipass "it as https://canonical.com/multipass says, or use E2E_VM_LIFECYCLE=external"
  vm_field Ipv4 >"$WORK/address" || die "there is no VM $E2E_VM_NAME: deploy makes it"
  E2E_VM_HOST=$(cat "$WORK/address")
  [[ $E2E_VM_HOST =~ ^[0-9a-fA-F.:]+$ ]] || fail "the VM $E2E_VM_NAME has no address: see multipass info $E2E_VM_NAME"
}

# ensure_vm: makes the VM when there is none, and waits until it answers SSH.
ensure_vm() {
  local until=$((SECONDS + E2E_VM_TIMEOUT_S))
  [ "$E2E_VM_LIFECYCLE" = multipass ] || return 0
  needs multipass "it as https://canonical.com/multipass says, or use E2E_VM_LIFECYCLE=external"
  needs ssh "OpenSSH's client"
  if vm_field State >/dev/null; then return 0; fi
  grep -q 'does not exist' "$WORK/vm-error" || fail "multipass does not answer: $(tail -n 1 "$WORK/vm-error")"
  launch_vm
  set_ssh_options
  while :; do
    if vm_field Ipv4 >"$WORK/address" && E2E_VM_HOST=$(cat "$WORK/address") && [ -n "$E2E_VM_HOST" ]; then
      if try_connection; then break; fi
      # Waiting changes nothing about a key.
      if grep -qE 'Host key verification failed|IDENTIFICATION HAS CHANGED' "$WORK/ssh"; then refuse_connection 255; fi
    fi
    [ "$SECONDS" -lt "$until" ] || fail "the VM $E2E_VM_NAME did not answer SSH within $E2E_VM_TIMEOUT_S s"
    sleep 1
  done
}

launch_vm() {
  local settings=${E2E_VM_CLOUD_INIT:-} key
  if [ -z "$settings" ]; then
    settings=$WORK/cloud-init.yaml
    key=$(public_key)
    printf '#cloud-config\nssh_authorized_keys:\n  - %s\n' "$key" >"$settings"
  fi
  say "making the VM $E2E_VM_NAME"
  attend timeout -k 10 "$E2E_VM_TIMEOUT_S" multipass launch --name "$E2E_VM_NAME" --cpus "${E2E_VM_CPUS:-2}" \
    --memory "${E2E_VM_MEMORY:-4G}" --disk "${E2E_VM_DISK:-20G}" --timeout "$E2E_VM_TIMEOUT_S" \
    --cloud-init - "${E2E_VM_IMAGE:-lts}" >&2 <"$settings" ||
    fail "multipass could not make the VM $E2E_VM_NAME. What there is of it goes with: scripts/e2e-k3s-helm.sh remove-vm"
}

public_key() {
  if [ -r "$E2E_SSH_KEY.pub" ]; then head -n 1 -- "$E2E_SSH_KEY.pub"; return; fi
  timeout 10 ssh-keygen -y -P '' -f "$E2E_SSH_KEY" 2>/dev/null </dev/null ||
    die "E2E_SSH_KEY.pub is missing, and the key cannot be opened: ssh-keygen -y -f KEY >KEY.pub makes it"
}

remove_vm() {
  [ "$E2E_VM_LIFECYCLE" = multipass ] || die "E2E_VM_LIFECYCLE is external: its host is neither made nor deleted here"
  needs multipass "it as https://canonical.com/multipass says"
  if ! vm_field State >/dev/null; then
    grep -q 'does not exist' "$WORK/vm-error" || fail "multipass does not answer: $(tail -n 1 "$WORK/vm-error")"
    say "there is no VM $E2E_VM_NAME"
    return 0
  fi
  attend timeout -k 10 "$E2E_VM_TIMEOUT_S" multipass delete --purge "$E2E_VM_NAME" >&2 </dev/null ||
    fail "multipass could not delete the VM $E2E_VM_NAME"
  say "the VM $E2E_VM_NAME is deleted"
}
