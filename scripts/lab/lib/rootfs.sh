# shellcheck shell=bash
# Sourced by scripts that make an image out of this machine's own files, after lib/engine.sh: filling a root file
# system, and importing it unless the engine has it already. The caller sets WORK, a folder that goes away.

LABEL=staging.lab.made-from
MAKING=

# new_root_fs FOLDER: the usual folders and links, and nothing else.
new_root_fs() {
  local folder
  mkdir -p "$1"/usr/{bin,sbin,lib,lib64} "$1"/{etc,tmp,proc,sys,dev,root,run,var/empty,var/log,var/lib}
  chmod 1777 "$1/tmp"
  chmod 700 "$1/root"
  for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$1/$folder"; done
}

# add_needed ROOT_FS FILE...: the shared libraries that the files need, and the loader, each at its own path.
add_needed() {
  local root_fs=$1 library; shift
  { ldd "$@" 2>/dev/null || true; } | grep -oE '(=> |^[[:space:]]+)/[^ ]+' | grep -oE '/.*' | sort -u |
    while read -r library; do
      install -D -m 755 "$library" "$root_fs$(readlink -f "$(dirname "$library")")/$(basename "$library")"
    done
}

# add_programs ROOT_FS PROGRAM...: each by name at the place where this machine has it, with its libraries.
add_programs() {
  local root_fs=$1 name path files=(); shift
  for name in "$@"; do
    path=$(type -P "$name") || die "$name is not in PATH"
    install -D -m 755 "$(readlink -f "$path")" "$root_fs/usr/${path#"${path%/*bin/*}"/}"
    files+=("$path")
  done
  add_needed "$root_fs" "${files[@]}"
}

# add_files ROOT_FS PACKAGE...: what an installed package holds outside /usr/share.
add_files() {
  local root_fs=$1 file; shift
  dpkg -L "$@" | grep -v '^/usr/share/' |
    while read -r file; do if [ -f "$file" ]; then printf '%s\n' "${file#/}"; fi; done |
    tar -C / -c --no-recursion -T - | tar -x -C "$root_fs" --keep-directory-symlink
}

# make_image TAG DIGEST FILL SETTING...: calls FILL with a folder and imports it, unless the image is there.
make_image() {
  local tag=$1 digest=$2 fill=$3 root_fs setting changes=() before; shift 3
  before=$(engine 20 image inspect -f "{{index .Config.Labels \"$LABEL\"}}" "$tag" 2>/dev/null || true)
  if [ "$before" = "$digest" ]; then say "$tag is up to date"; return; fi
  root_fs=$WORK/${tag//[\/:]/-}
  new_root_fs "$root_fs"
  MAKING=$tag # "$fill || die" would pass over a step that fails inside it
  "$fill" "$root_fs"
  for setting in "LABEL $LABEL=$digest" "$@"; do changes+=(-c "$setting"); done
  tar -C "$root_fs" --sort=name --owner=0 --group=0 --numeric-owner -c . |
    engine 120 import "${changes[@]}" - "$tag" >/dev/null
  MAKING=
  rm -rf "$root_fs"
  say "$tag made, $(($(engine 20 image inspect -f '{{.Size}}' "$tag") / 1000000)) MB"
}
