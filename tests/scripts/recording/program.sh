#!/usr/bin/env bash
# helm, kubectl, k3s, docker, multipass or sudo, by the name of the link that it is called through. Notes each call in
# state/calls, keeps what it was told to keep below state/, and fails or hangs where a file there asks for it.
set -u
name=${0##*/}
state=${0%/*}/../state
printf '%q ' "$name" "$@" >"$state/call.$$"
echo >>"$state/call.$$"
cat "$state/call.$$" >>"$state/calls"
rm "$state/call.$$"

wish() { [ -e "$state/wish.$1" ]; }
complain() { echo "$*" >&2; exit 1; }
# value_of OPTION ARGUMENT...
value_of() { local option=$1; shift; while [ $# -gt 1 ]; do [ "$1" != "$option" ] || { printf %s "$2"; return; }; shift; done; }

helm() {
  local namespace
  namespace=$(value_of --namespace "$@")
  printf 'KUBECONFIG=%s\nHOME=%s\n' "$KUBECONFIG" "$HOME" >"$state/helm.environment"
  case $1 in
    upgrade)
      [ -e "$state/namespace.$namespace" ] || complain "Error: namespaces \"$namespace\" not found"
      [ -e "$4/Chart.yaml" ] || complain "Error: no chart in $4"
      cp -- "$(value_of --values "$@")" "$state/values.json"
      touch "$state/release.$namespace"
      if wish helm-hangs; then echo $$ >"$state/helm.pid"; exec sleep 300; fi
      if wish helm-fails; then complain "Error: context deadline exceeded"; fi
      if wish serve; then serve; fi
      ;;
    uninstall)
      if wish uninstall-fails; then complain "Error: cluster unreachable"; fi
      [ -e "$state/release.$namespace" ] || complain "Error: uninstall: Release not loaded: $2: release: not found"
      rm "$state/release.$namespace"
      if [ -e "$state/server.pid" ]; then kill "$(cat "$state/server.pid")"; rm "$state/server.pid"; fi
      ;;
  esac
}

# A pod that really answers, on the node port.
serve() {
  env -i setsid python3 "${0%/*}/../server.py" "$(cat "$state/node_port")" >/dev/null 2>&1 </dev/null &
  echo $! >"$state/server.pid"
}

kubectl() {
  local namespace
  namespace=$(value_of --namespace "$@")
  if wish kubectl-hangs; then exec sleep 300; fi
  if wish kubectl-fails; then complain "The connection to the server 127.0.0.1:6443 was refused"; fi
  shift # --request-timeout
  case "$1 $2" in
    "get namespace")
      [ -e "$state/namespace.$3" ] || exit 0
      case $* in *jsonpath*) echo "$(cat "$state/namespace.$3") there" ;; *) echo "namespace/$3" ;; esac
      ;;
    "create --filename")
      local text
      text=$(cat)
      [[ $text =~ \"name\":\"([^\"]*)\".*\"pytest-staging-namespace\":\"1\" ]] && printf 1 >"$state/namespace.${BASH_REMATCH[1]}"
      ;;
    "delete namespace")
      if wish namespace-stays; then complain "error: timed out waiting for the condition on namespaces/$3"; fi
      rm -f "$state/namespace.$3" "$state/release.$3"
      ;;
    "get service") cat "$state/node_port" ;;
    "get deployment") [ ! -e "$state/release.$namespace" ] || echo deployment.apps/staging ;;
    "get deployments,services,pods")
      # The first look still finds the pod.
      if [ -e "$state/wish.lingers" ]; then rm "$state/wish.lingers"; echo pod/staging-1; fi
      ;;
    "get pods")
      case $* in
        *containerStatuses*) cat "$state/pods" ;;
        *metadata.uid*) cat "$state/uid" ;;
        *) echo "staging-1 0/1 ImagePullBackOff" ;;
      esac
      ;;
    "get events") echo "event: back-off" ;;
    "logs --namespace") echo "the service's last words" ;;
  esac
}

k3s() {
  shift 4 # ctr --namespace k8s.io images
  case $1 in
    list) cat "$state/images" ;;
    import)
      local archive
      archive=$(cat)
      if wish import-fails; then complain "ctr: no space left on device"; fi
      printf '%s\n' "${archive#archive of }" >>"$state/images"
      ;;
    remove) grep -vxF -- "$2" "$state/images" >"$state/images.new"; mv "$state/images.new" "$state/images" ;;
  esac
}

docker() {
  case "$1 $2" in
    "image inspect")
      grep -qxF -- "$5" "$state/docker-images" || complain "Error: No such image: $5"
      echo "sha256:$(printf '0a%.0s' {1..32}) $(cat "$state/docker-tags")"
      ;;
    "image save") printf 'archive of %s' "$3"; if wish save-fails; then complain "Error: unexpected EOF"; fi ;;
    "build --tag") cat "${@: -1}/Dockerfile" >"$state/built" ;;
  esac
}

multipass() {
  case $1 in
    info)
      [ -e "$state/vm.$2" ] || complain "info failed: instance \"$2\" does not exist"
      printf 'Name,State,Ipv4,Release\n%s,Running,127.0.0.1,x\n' "$2"
      ;;
    launch) cat >"$state/cloud-init"; touch "$state/vm.$3" ;;
    delete) rm "$state/vm.$3" ;;
  esac
}

sudo() { shift; [ "$1" != -- ] || shift; command "$@"; }

"$name" "$@"
