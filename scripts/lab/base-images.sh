#!/usr/bin/env bash
# Makes the base images of the sample's Dockerfiles out of this machine's own files; no registry is asked. An image that
# is there, made by this script from the same JDK, compiler and C library, is left alone: `docker import` gives new ids.
#
#   staging-lab/jre:17    a small Java runtime, for the containers themselves
#   staging-lab/jdk:17    the same with javac, for the build stage
#   staging-lab/cc:12     GCC and a C library to link with -static, for the build stage
#
# None of them has a shell: write RUN, CMD and ENTRYPOINT in exec form, RUN ["cc", "-static", ...].
#
#   STAGING_LAB_JDK          folder of a JDK 17; default: the machine's, or apt's openjdk-17-jdk-headless
#   STAGING_ENGINE_SOCKET    the engine's socket; default: DOCKER_HOST when it is a unix:// address, else the usual one
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/lab/lib/engine.sh
. "$ROOT/scripts/lab/lib/engine.sh"

LABEL=staging.lab.made-from
RUN_MODULES=java.base,jdk.httpserver,java.management,jdk.management
BUILD_MODULES=$RUN_MODULES,jdk.compiler,jdk.zipfs
DEFAULT_JDK_PACKAGE=openjdk-17-jdk-headless

# What is copied from here.

is_jdk_17() {
  grep -qs '^JAVA_VERSION="17[."]' "$1/release" && [ -x "$1/bin/jlink" ] && [ -f "$1/jmods/java.base.jmod" ]
}

find_jdk() {
  local folder
  if [ -n "${STAGING_LAB_JDK:-}" ]; then
    is_jdk_17 "$STAGING_LAB_JDK" || die "STAGING_LAB_JDK is $STAGING_LAB_JDK, which is no JDK 17 with jlink and jmods"
    JDK=$STAGING_LAB_JDK
    return
  fi
  for folder in "${JAVA_HOME:-}" "$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")" /usr/lib/jvm/*; do
    if is_jdk_17 "$folder"; then JDK=$folder; return; fi
  done
  return 1
}

has_compiler() {
  command -v gcc-12 && command -v as && command -v ld && [ -f "$(gcc-12 -print-file-name=libc.a)" ]
} >/dev/null

made_from() { # made_from WHAT...: a digest of this script, the C library and what the caller names
  { cat "$ROOT/scripts/lab/base-images.sh"; uname -m; dpkg-query -W -f '${Version}\n' libc6; printf '%s\n' "$@"; } |
    sha256sum | cut -c1-32
}

# Filling a root file system.

# new_root_fs FOLDER: only what every program expects to find.
new_root_fs() {
  local folder
  mkdir -p "$1"/usr/{bin,lib,lib64} "$1"/{etc,tmp}
  chmod 1777 "$1/tmp"
  for folder in bin lib lib64; do ln -s "usr/$folder" "$1/$folder"; done
  printf 'root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n' >"$1/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
  printf 'hosts: files dns\n' >"$1/etc/nsswitch.conf"
}

# add_libraries ROOT_FS FILE...: the shared libraries that the files need, and the loader, each at its own path.
add_libraries() {
  local root_fs=$1 library; shift
  while read -r library; do
    [[ $library == "$root_fs"/* ]] && continue
    install -D -m 755 "$library" "$root_fs$(readlink -f "$(dirname "$library")")/$(basename "$library")"
  done < <({ ldd "$@" 2>/dev/null || true; } | grep -oE '(=> |^[[:space:]]+)/[^ ]+' | grep -oE '/.*' | sort -u)
}

# add_java ROOT_FS MODULES: what jlink makes of the modules, in /opt/java.
add_java() {
  local files
  timeout -k 5 120 "$JDK/bin/jlink" --module-path "$JDK/jmods" --add-modules "$2" --output "$1/opt/java" \
    --vm server --strip-java-debug-attributes --no-header-files --no-man-pages
  # jlink leaves out the class archive, which makes starts quick.
  timeout -k 5 60 "$1/opt/java/bin/java" -Xshare:dump >/dev/null 2>&1
  mapfile -t files < <(find "$1/opt/java/bin" "$1/opt/java/lib" -type f \( -name '*.so' -o -perm /100 \))
  add_libraries "$1" "${files[@]}"
}

# add_packages ROOT_FS PACKAGE...: an installed package's files, without what only other languages and tools need.
add_packages() {
  local root_fs=$1 file; shift
  dpkg -L "$@" | grep -vE '^/usr/share/|/lto1$|lto-dump|gcov|lib(asan|lsan|tsan|ubsan|hwasan|quadmath|gomp|itm|cc1)' |
    while read -r file; do if [ -f "$file" ]; then printf '%s\n' "${file#/}"; fi; done |
    tar -C / -c --no-recursion -T - | tar -x -C "$root_fs"
}

fill_jre() { add_java "$1" "$RUN_MODULES"; }
fill_jdk() { add_java "$1" "$BUILD_MODULES"; }

fill_cc() {
  local program programs
  add_packages "$1" gcc-12 cpp-12 libgcc-12-dev libc6-dev linux-libc-dev
  for program in as ld; do install -m 755 "$(readlink -f "$(command -v $program)")" "$1/usr/bin/$program"; done
  ln -s gcc-12 "$1/usr/bin/cc"
  mapfile -t programs < <(find "$1/usr/bin" "$1/usr/lib/gcc" -type f \( -name '*.so' -o -perm /100 \))
  add_libraries "$1" "${programs[@]}"
}

# Importing it.

# make_image TAG DIGEST FILL SETTING...: fills a root file system and imports it, unless the image is there.
make_image() {
  local tag=$1 digest=$2 fill=$3 root_fs setting began=$EPOCHREALTIME changes=() before size; shift 3
  before=$(engine 20 image inspect -f "{{index .Config.Labels \"$LABEL\"}}" "$tag" 2>/dev/null || true)
  if [ "$before" = "$digest" ]; then say "$tag is up to date"; return; fi
  root_fs=$WORK/${tag//[\/:]/-}
  new_root_fs "$root_fs"
  MAKING=$tag # not "$fill || die": inside that, a failed step would be passed over
  "$fill" "$root_fs"
  for setting in "LABEL $LABEL=$digest" "$@"; do changes+=(-c "$setting"); done
  tar -C "$root_fs" --sort=name --owner=0 --group=0 --numeric-owner -c . |
    engine 120 import "${changes[@]}" - "$tag" >/dev/null
  MAKING=
  rm -rf "$root_fs"
  # The former image is now without a tag, and so are build stages made on it, which inherited its label.
  if [ -n "$before" ]; then engine 60 image prune --force --filter "label=$LABEL=$before" >/dev/null || true; fi
  size=$(engine 20 image inspect -f '{{.Size}}' "$tag")
  say "$tag made in $(seconds_since "$began") s, $((size / 1000000)) MB"
}

seconds_since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'; }

engine_version || die "no engine answers on $SOCKET ($NO_ANSWER). Start one with scripts/lab/start-engine.sh"
exec 9>>"${TMPDIR:-/tmp}/staging-lab-images-$(id -u).lock"
flock -w 300 9 || die "another scripts/lab/base-images.sh has been at work for 300 s"
command -v dpkg >/dev/null || die "the base images are made from Debian packages, and this machine has no dpkg"
if ! find_jdk; then
  install_packages "a JDK 17" $DEFAULT_JDK_PACKAGE
  find_jdk || die "$DEFAULT_JDK_PACKAGE brought no JDK 17"
fi
has_compiler || install_packages "GCC 12 with a static C library" gcc-12 libc6-dev

WORK=$(mktemp -d)
MAKING=
trap 'rm -rf "$WORK"; [ -z "$MAKING" ] || say "$MAKING could not be made: see above"' EXIT
trap 'exit 130' INT TERM HUP
jdk=$(made_from "$(cat "$JDK/release")")
cc=$(made_from "$(gcc-12 --version)" "$(ld --version)")
java_settings=("ENV JAVA_HOME=/opt/java" "ENV PATH=/opt/java/bin:/usr/bin" "ENV LANG=C.UTF-8")
make_image staging-lab/jre:17 "$jdk" fill_jre "${java_settings[@]}"
make_image staging-lab/jdk:17 "$jdk" fill_jdk "${java_settings[@]}"
make_image staging-lab/cc:12 "$cc" fill_cc "ENV PATH=/usr/bin" "ENV LANG=C.UTF-8"
