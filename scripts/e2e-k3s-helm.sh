#!/usr/bin/env bash
# Deploys one version of a service in one mode to a k3s cluster on a host that is reached over SSH.
#
#   scripts/e2e-k3s-helm.sh deploy      brings the image there, installs deploy/k3s, prints `url=http://...` last
#   scripts/e2e-k3s-helm.sh status      prints state=ready (exit 0), or another state (exit 3)
#   scripts/e2e-k3s-helm.sh log         prints the service's log
#   scripts/e2e-k3s-helm.sh memory      prints the pod's largest memory so far, in bytes
#   scripts/e2e-k3s-helm.sh destroy     removes all that deploy made; nothing there is fine
#   scripts/e2e-k3s-helm.sh remove-vm   deletes the VM (E2E_VM_LIFECYCLE=multipass only)
#
# Exit code 2: a setting or a program is missing, and one line says which. 1: it failed.
#
# Always needed:
#   NAMESPACE                 of this deploy alone; made when it is not there, and then removed by destroy
#   E2E_VM_HOST               the host (external), or
#   E2E_VM_LIFECYCLE=multipass with E2E_VM_NAME (staging-...): deploy makes the VM when there is none
#   E2E_VM_USER, E2E_VM_HOME  who logs in there, and that user's home folder
#   E2E_SSH_KEY               private key on this machine
#   E2E_KUBECONFIG_PATH       on the host
#   E2E_REMOTE_PROJECT_DIR    on the host: a folder in which files may be put
# For deploy:
#   STAGING_IMAGE             the image's name in the local engine (or in a registry)
#   STAGING_VERSION, STAGING_MODE, STAGING_CAMPAIGN, STAGING_CELL   what the labels say
# docs/k3s.md has the rest, with defaults.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/e2e-k3s-common.sh
. "$ROOT/scripts/lib/e2e-k3s-common.sh"

IMAGES=pytest-staging.local/service

read_deploy_settings() {
  one_of E2E_IMAGE_SOURCE ship ship build registry
  if [ "$E2E_IMAGE_SOURCE" = build ]; then
    require STAGING_VERSION_ROOT "the folder with the version's files and its Dockerfile"
    [ -f "$STAGING_VERSION_ROOT/$STAGING_DOCKERFILE" ] || die "STAGING_VERSION_ROOT has no file '$STAGING_DOCKERFILE'"
  else
    require STAGING_IMAGE "the image's name"
  fi
  number STAGING_SERVICE_PORT 8080
  number STAGING_READY_TIMEOUT_S 60
  number STAGING_MEMORY_MB 512
  STAGING_CPUS=${STAGING_CPUS:-1}
  [[ $STAGING_CPUS =~ ^[0-9]{1,4}(\.[0-9]{1,3})?$ ]] || die "STAGING_CPUS is '$STAGING_CPUS', and a number is needed"
  [ -z "${E2E_NODE_PORT:-}" ] || number E2E_NODE_PORT 0
}

# --- the image: named by its content in the node, so that a name that is there needs no second look ---------------------

# image_id: what the local engine has under that name. STAGING_IMAGE_ID, when it is given, decides.
image_id() {
  local id=${STAGING_IMAGE_ID:-$STAGING_IMAGE}
  needs docker "it (on Debian: apt-get install docker.io), or use E2E_IMAGE_SOURCE=build or registry"
  attend timeout -k 5 "$E2E_COMMAND_TIMEOUT_S" docker image inspect --format '{{.Id}} {{len .RepoTags}}' "$id" \
    >"$WORK/image" 2>"$WORK/image-error" </dev/null ||
    fail "the image $id is not in this machine's engine: $(tail -n 1 "$WORK/image-error")"
}

pack() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - -C "$1" .; }

bring_image() {
  local key tags
  case $E2E_IMAGE_SOURCE in
    registry) REFERENCE=$STAGING_IMAGE PULL=IfNotPresent; return ;;
    ship) image_id; read -r key tags <"$WORK/image" ;;
    build) key=$({ printf '%s\n' "$STAGING_DOCKERFILE"; pack "$STAGING_VERSION_ROOT"; } | sha256sum) ;;
  esac
  key=${key#sha256:}
  REFERENCE=$IMAGES:$E2E_IMAGE_SOURCE-${key:0:40} PULL=Never
  ask_host "$E2E_COMMAND_TIMEOUT_S" host_has_image "$REFERENCE" </dev/null || fail "the images of $E2E_VM_HOST cannot be listed"
  if [ "$(answer image)" = present ]; then say "$E2E_VM_HOST has the image $REFERENCE"; return; fi
  if [ "$E2E_IMAGE_SOURCE" = ship ]; then ship_image "sha256:$key" "$tags"; else build_there; fi
}

# ship_image ID TAGS: under a tag of ours, which is what the archive, and so the node, knows it by.
ship_image() {
  say "sending the image $STAGING_IMAGE to $E2E_VM_HOST as $REFERENCE"
  attend timeout -k 5 "$E2E_COMMAND_TIMEOUT_S" docker image tag "$1" "$REFERENCE" </dev/null || fail "docker cannot tag $1"
  # The last tag of an image takes the image with it.
  [ "$2" = 0 ] || UNTAG=$REFERENCE
  rm -f "$WORK/saved"
  on_host "$E2E_IMAGE_TIMEOUT_S" host_import_image \
    < <(timeout -k 5 "$E2E_IMAGE_TIMEOUT_S" docker image save "$REFERENCE" </dev/null && : >"$WORK/saved") ||
    fail "$E2E_VM_HOST could not import the image"
  # The node may take half an archive for a whole one.
  if [ ! -e "$WORK/saved" ]; then
    ask_host "$E2E_COMMAND_TIMEOUT_S" host_remove_image "$REFERENCE" </dev/null || true
    fail "docker could not save the image $STAGING_IMAGE"
  fi
}

build_there() {
  say "building the image $REFERENCE on $E2E_VM_HOST"
  on_host "$E2E_IMAGE_TIMEOUT_S" host_build_image "$REFERENCE" < <(pack "$STAGING_VERSION_ROOT") ||
    fail "the image could not be built on $E2E_VM_HOST"
}

# --- what the chart is told -----------------------------------------------------------------------------------------

# json TEXT: as JSON has it.
json() {
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  text=${text//$'\t'/\\t}
  printf '"%s"' "${text//[[:cntrl:]]/ }"
}

# label TEXT: what Kubernetes takes as a label's value: 63 characters, a letter or digit at both ends.
label() {
  local text=${1//[!A-Za-z0-9._-]/-}
  text=${text:0:63}
  while [[ $text == [._-]* ]]; do text=${text#?}; done
  while [[ $text == *[._-] ]]; do text=${text%?}; done
  json "$text"
}

values() {
  local port=null
  [ -z "${E2E_NODE_PORT:-}" ] || port=$E2E_NODE_PORT
  printf '{"image":{"reference":%s,"pullPolicy":"%s"},' "$(json "$REFERENCE")" "$PULL"
  printf '"port":%s,"nodePort":%s,"health":%s,' "$STAGING_SERVICE_PORT" "$port" "$(json "${STAGING_HEALTH:-/healthz}")"
  printf '"readyTimeoutSeconds":%s,' "$STAGING_READY_TIMEOUT_S"
  printf '"resources":{"cpu":%s,"memory":"%sMi"},' "$(json "$STAGING_CPUS")" "$STAGING_MEMORY_MB"
  printf '"labels":%s,"annotations":%s,' "$(purposes label)" "$(purposes json)"
  printf '"environmentJson":%s}\n' "$(json "${STAGING_SERVICE_ENVIRONMENT:-"{}"}")"
}

# purposes FUNCTION: whose this is, as a JSON object of what FUNCTION makes of each name.
purposes() {
  printf '{"campaign":%s,"cell":%s,"version":%s,"mode":%s}' "$("$1" "${STAGING_CAMPAIGN:-}")" \
    "$("$1" "${STAGING_CELL:-}")" "$("$1" "${STAGING_VERSION:-}")" "$("$1" "${STAGING_MODE:-}")"
}

# --- commands ---------------------------------------------------------------------------------------------------------

print_url() {
  local host=$E2E_VM_HOST port
  port=$(answer node_port)
  [[ $port =~ ^[0-9]+$ ]] || fail "the service in namespace $NAMESPACE has no node port"
  [[ $host != *:* ]] || host="[$host]"
  printf 'url=%s\n' "${E2E_BASE_URL:-http://$host:$port}"
}

deploy() {
  local programs=(helm kubectl)
  read_deploy_settings
  ensure_vm
  [ -n "$MASTER" ] || connect
  [ "$E2E_IMAGE_SOURCE" = registry ] || programs+=(k3s)
  [ "$E2E_IMAGE_SOURCE" != build ] || programs+=(docker)
  require_on_host "${programs[@]}" tar
  remove_cell || fail "an earlier deploy in namespace $NAMESPACE could not be removed"
  UNDO=1 MARKED=1
  bring_image
  values >"$WORK/values.json"
  ask_host $((E2E_DEPLOY_TIMEOUT_S + 60)) host_deploy \
    < <(tar -cf - -C "$ROOT/deploy" k3s -C "$WORK" values.json) || fail "the deploy failed; see above"
  print_url >"$WORK/url"
  printf 'namespace=%s\nimage=%s\n' "$NAMESPACE" "$REFERENCE"
  cat "$WORK/url"
  UNDO=''
}

# remove_cell: everything that deploy made there; it succeeds only when the host saw that it is gone.
remove_cell() {
  MARKED=''
  ask_host $((2 * E2E_DESTROY_TIMEOUT_S + 60)) host_destroy </dev/null && [ "$(answer gone)" = yes ]
}

destroy() {
  connect
  require_on_host helm kubectl
  remove_cell || fail "something may be left in namespace $NAMESPACE on $E2E_VM_HOST; run this again"
  say "namespace $NAMESPACE: nothing is left"
}

status() {
  local state
  connect
  require_on_host kubectl
  ask_host "$E2E_COMMAND_TIMEOUT_S" host_status </dev/null || fail "the cluster on $E2E_VM_HOST does not answer"
  state=$(answer state)
  printf 'state=%s\n' "$state"
  [ "$state" = ready ] || exit 3
  print_url
}

log() {
  connect
  require_on_host kubectl
  on_host "$E2E_COMMAND_TIMEOUT_S" host_log </dev/null
}

memory() {
  connect
  require_on_host kubectl
  ask_host "$E2E_COMMAND_TIMEOUT_S" host_memory </dev/null || fail "the memory of namespace $NAMESPACE cannot be read"
  answer bytes
}

usage() { sed -n '2,/^set /{ /^set /d; s/^# \{0,1\}//; p; }' "${BASH_SOURCE[0]}"; }

[ "$#" = 1 ] || die "one command is needed: deploy, status, log, memory, destroy or remove-vm (--help says more)"
case $1 in
  -h | --help) usage; exit 0 ;;
  deploy | status | log | memory | destroy) command=$1 ;;
  remove-vm) command=remove_vm ;;
  *) die "'$1' is no command. Known: deploy, status, log, memory, destroy, remove-vm" ;;
esac
read_settings
begin
"$command"
