# shellcheck shell=bash
# What scripts/e2e-k3s-helm.sh does on the host. It is not started there: the text of this file goes over SSH to bash's
# standard input, behind assignments of the variables that it reads and before the call of one function; after that,
# standard input is what that function is given. Answers are lines `staging:NAME=VALUE` on standard output; everything
# else that is printed goes to standard error.
set -uo pipefail
umask 077
# The variables were assigned in front of this text.
# shellcheck disable=SC2153,SC2154
export HOME=$E2E_VM_HOME KUBECONFIG=$E2E_KUBECONFIG_PATH PATH=${E2E_REMOTE_PATH:+$E2E_REMOTE_PATH:}$PATH
# The configuration of a person's helm on that host is none of ours.
unset HELM_NAMESPACE HELM_KUBECONTEXT
WORK=$E2E_REMOTE_PROJECT_DIR/.pytest-staging-k3s/$NAMESPACE
# shellcheck disable=SC2153
INSTANCE=app.kubernetes.io/instance=$RELEASE
OURS=pytest-staging-namespace

host_say() { printf '>> %s\n' "$*" >&2; }
# A chatty .bashrc may have left half a line.
reply() { printf '\nstaging:%s=%s\n' "$1" "$2"; }
as_root() { if [ "$E2E_REMOTE_SUDO" = 1 ]; then sudo -n -- "$@"; else "$@"; fi; }
images() { as_root k3s ctr --namespace k8s.io images "$@"; }
cluster() { kubectl --request-timeout=15s "$@" </dev/null; }

# host_check PROGRAM...: answers with the first that is missing, and with what else is in the way.
host_check() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || { reply missing "$program"; return; }
  done
  if [ "$E2E_REMOTE_SUDO" = 1 ] && ! sudo -n true 2>/dev/null; then reply no_sudo 1; fi
  if [ ! -r "$KUBECONFIG" ]; then reply no_kubeconfig 1; fi
}

# Answers whether the image of that name lies in the node.
host_has_image() {
  local names
  names=$(images list --quiet </dev/null) || { host_say "k3s ctr does not answer"; return 1; }
  if printf '%s\n' "$names" | grep -qxF -- "$1"; then reply image present; else reply image absent; fi
}

# Standard input is what `docker save` wrote.
host_import_image() { images import - >&2; }

# host_build_image NAME: standard input is the version root as a tar file.
host_build_image() {
  local status=0 sources=$WORK/sources
  rm -rf -- "$sources" && mkdir -p -- "$sources" && tar -xof - -C "$sources" || return 1
  as_root docker build --tag "$1" --file "$sources/$STAGING_DOCKERFILE" "$sources" </dev/null >&2 &&
    as_root docker image save "$1" | images import - >&2 || status=1
  as_root docker image rm "$1" </dev/null >/dev/null 2>&1
  rm -rf -- "$sources"
  return "$status"
}

host_remove_image() { images remove "$1" </dev/null >&2; }

# Standard input is the chart and its values as a tar file. What earlier deploys left is gone already.
host_deploy() {
  local port
  mkdir -p -- "$WORK" && tar -xof - -C "$WORK" || return 1
  make_namespace || return 1
  if ! helm upgrade --install "$RELEASE" "$WORK/k3s" --namespace "$NAMESPACE" --values "$WORK/values.json" \
    --wait --timeout "${E2E_DEPLOY_TIMEOUT_S}s" </dev/null >&2; then
    host_say "helm failed in namespace $NAMESPACE"
    show_trouble
    return 1
  fi
  port=$(node_port) || return 1
  reply node_port "$port"
}

# One that is there already belongs to somebody; one that is made here carries the label by which it is removed.
make_namespace() {
  local found
  found=$(cluster get namespace "$NAMESPACE" --ignore-not-found --output name) || return 1
  [ -z "$found" ] || return 0
  printf '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"%s","labels":{"%s":"1"}}}' "$NAMESPACE" "$OURS" |
    kubectl --request-timeout=15s create --filename - >&2
}

node_port() {
  cluster get service "$RELEASE" --namespace "$NAMESPACE" --output 'jsonpath={.spec.ports[0].nodePort}'
}

show_trouble() {
  {
    host_say "pods:"
    cluster get pods --namespace "$NAMESPACE" --selector "$INSTANCE" --output wide
    host_say "events:"
    cluster get events --namespace "$NAMESPACE" --sort-by=.lastTimestamp | tail -n 10
    host_say "last lines of the log:"
    cluster logs --namespace "$NAMESPACE" --selector "$INSTANCE" --tail=30 --all-containers
  } >&2
}

# Answers with state=ready (and the node port), absent, starting or restarted.
host_status() {
  local release pods
  release=$(cluster get deployment "$RELEASE" --namespace "$NAMESPACE" --ignore-not-found --output name) || return 1
  [ -n "$release" ] || { reply state absent; return; }
  cluster get pods --namespace "$NAMESPACE" --selector "$INSTANCE" >&2
  pods=$(cluster get pods --namespace "$NAMESPACE" --selector "$INSTANCE" --output \
    'jsonpath={range .items[*].status.containerStatuses[*]}{.ready}/{.restartCount} {end}') || return 1
  case $pods in
    'true/0 ') ;;
    */[1-9]*) reply state restarted; return ;;
    *) reply state starting; return ;;
  esac
  reply node_port "$(node_port)"
  reply state ready
}

host_log() { cluster logs --namespace "$NAMESPACE" --selector "$INSTANCE" --tail=-1; }

# Answers with the pod's largest memory so far, as its control group (version 2 or 1) counted it.
host_memory() {
  local uid file
  uid=$(cluster get pods --namespace "$NAMESPACE" --selector "$INSTANCE" --output 'jsonpath={.items[0].metadata.uid}')
  [ -n "$uid" ] || { host_say "there is no pod in namespace $NAMESPACE"; return 1; }
  for file in memory.peak memory.max_usage_in_bytes; do
    file=$(find "$E2E_CGROUP_ROOT" \( -path "*pod$uid*/$file" -o -path "*pod${uid//-/_}*/$file" \) 2>/dev/null |
      awk '{ print length($0) "\t" $0 }' | sort -n | head -n 1 | cut -f 2-)
    if [ -n "$file" ]; then reply bytes "$(cat -- "$file")"; return; fi
  done
  host_say "no control group below $E2E_CGROUP_ROOT counts the peak of pod $uid"
  return 1
}

# Everything of the cell, whatever state it is in. Nothing there is fine. Answers gone=yes only when that was seen.
host_destroy() {
  local mine
  end_deploys
  rm -rf -- "$WORK" # before anything that can fail: it needs no cluster
  rmdir -- "$E2E_REMOTE_PROJECT_DIR/.pytest-staging-k3s" 2>/dev/null
  mine=$(cluster get namespace "$NAMESPACE" --ignore-not-found --output "jsonpath={.metadata.labels.$OURS} there") ||
    return 1
  if [ -z "$mine" ]; then reply gone yes; return; fi
  if [ "$mine" = "1 there" ]; then
    uninstall || host_say "helm could not uninstall $RELEASE; what it left goes with the namespace $NAMESPACE"
    cluster_wait delete namespace "$NAMESPACE" --ignore-not-found --wait=true || return 1
    mine=$(cluster get namespace "$NAMESPACE" --ignore-not-found --output name) && [ -z "$mine" ] || return 1
  else
    uninstall && await_no_objects || return 1
  fi
  reply gone yes
}

cluster_wait() { kubectl --request-timeout=0 "$@" "--timeout=${E2E_DESTROY_TIMEOUT_S}s" </dev/null >&2; }

uninstall() {
  local said
  if said=$(helm uninstall "$RELEASE" --namespace "$NAMESPACE" --wait --timeout "${E2E_DESTROY_TIMEOUT_S}s" \
    </dev/null 2>&1); then return 0; fi
  case $said in *"not found"*) return 0 ;; esac
  printf '%s\n' "$said" >&2
  return 1
}

# A pod that still goes down would be measured beside the next version.
await_no_objects() {
  local left until=$((SECONDS + E2E_DESTROY_TIMEOUT_S))
  while [ "$SECONDS" -lt "$until" ]; do
    left=$(cluster get deployments,services,pods --namespace "$NAMESPACE" --selector "$INSTANCE" --output name) ||
      return 1
    [ -n "$left" ] || return 0
    sleep 0.5
  done
  host_say "still in namespace $NAMESPACE after $E2E_DESTROY_TIMEOUT_S s: ${left//$'\n'/, }"
  return 1
}

# A deploy whose connection was lost goes on by itself, and would put back what is removed here. All its processes have
# the mark in their environment.
end_deploys() {
  local tries pids number=TERM
  for tries in {1..40}; do
    pids=$(marked_processes)
    [ -n "$pids" ] || return 0
    [ "$tries" -le 20 ] || number=KILL
    # shellcheck disable=SC2086 # one number each
    kill -s "$number" $pids 2>/dev/null
    sleep 0.1
  done
  host_say "processes of an earlier deploy do not end: ${pids//$'\n'/ }"
}

# A zombie's environment is empty, so none is found.
marked_processes() {
  local file
  grep -lzxF -- "$DEPLOY_MARK=$NAMESPACE" /proc/[0-9]*/environ 2>/dev/null | while IFS=/ read -r _ _ file _; do
    printf '%s\n' "$file"
  done
}
