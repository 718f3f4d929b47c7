# Sourced by the scripts beside it: a virtual environment of the project's own, and the programs that real parts need.
# Everything here may be called again and again; what is there already is left alone.

PYTHON=${PYTHON:-python3}
VENV=${STAGING_VENV:-$ROOT/.venv}

say() { printf '>> %s\n' "$*" >&2; }
die() { printf '>> %s\n' "$*" >&2; exit 2; }

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE...: at most one 'apt-get update' per run.
apt_install() {
  say "installing through apt: $*"
  if [ -z "${APT_UPDATED:-}" ]; then apt-get update -qq && APT_UPDATED=1; fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# need PROGRAM PACKAGE...: installs the packages when the program is missing and apt may be used. Fails otherwise.
need() {
  local program=$1; shift
  command -v "$program" >/dev/null && return 0
  if may_install; then apt_install "$@" && command -v "$program" >/dev/null && return 0; fi
  say "$program is missing. Install it, on Debian with: sudo apt-get install $*"
  return 1
}

# Makes the virtual environment and installs the project into it with the named extras, e.g. setup_python load,test
setup_python() {
  command -v "$PYTHON" >/dev/null || die "python3 is missing. Install Python 3.10 or newer, on Debian: sudo apt-get install python3 python3-venv"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "Python 3.10 or newer is needed, $("$PYTHON" -V) was found. Name another with PYTHON=..."
  if ! "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
    may_install || die "Python's venv module is missing. Install it: sudo apt-get install python3-venv"
    apt_install python3-venv
  fi
  if ! "$VENV/bin/python" -c '' 2>/dev/null; then
    say "making a virtual environment in $VENV"
    "$PYTHON" -m venv --clear "$VENV"
  fi
  local stamp="$VENV/.installed-$1" wanted
  wanted=$(cd "$ROOT" && cat setup.cfg pyproject.toml | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    say "installing pytest-staging[$1] and what it needs into $VENV (pip)"
    "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --editable "$ROOT[$1]"
    printf '%s' "$wanted" >"$stamp"
  fi
}
