"""Text for a host's shell. Everything that is not ours is quoted; the login shell only starts /bin/sh."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from pytest_staging.model.errors import UnsafeName

PROCESS_MARK = "STAGING_PROCESS"
"""Environment variable by which everything that a command started is found again, whatever session it is in."""
NO_FOLDER = 125
"""Status of a command whose folder is not there."""
NOT_BEGUN = 126
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Kills until nobody is left, and prints how many there were. $1: NAME=VALUE in the environment. $2: a session, or
# nothing. $3: `all` looks at command lines too, for a login shell that has not come to the program yet. Its own session
# is left out, because its own command line holds the mark.
KILL_SCRIPT = r"""
fields() { set -- ${1##*) }; state=$1 session=$4; }
stat_of() { read -r line 2>/dev/null <"/proc/$1/stat" && fields "$line"; }
stat_of $$; own=$session; mark=$1 wanted=$2 also=; [ "$3" = all ] && also='/proc/[0-9]*/cmdline'
marked() {
  for file in $(grep -laF -e "$mark" /proc/[0-9]*/environ $also); do
    case $file in */environ) tr '\0' '\n' <"$file" | grep -qxF -e "$mark" || continue;; esac
    file=${file#/proc/}; echo "${file%/*}"
  done
}
living() {
  for pid in $(marked); do
    stat_of "$pid" && [ "$session" != "$own" ] && [ "$state" != Z ] && echo "$pid"
  done
  [ -z "$wanted" ] || for file in /proc/[0-9]*; do
    stat_of "${file#/proc/}" && [ "$session" = "$wanted" ] && [ "$state" != Z ] && echo "${file#/proc/}"
  done
}
count=0 turn=0
while pids=$(living | sort -u) && [ -n "$pids" ]; do
  set -- $pids; [ $# -gt $count ] && count=$#
  kill -KILL "$@"
  turn=$((turn + 1)); [ $turn -gt 100 ] && { echo "$@" survive; exit 1; }
  sleep 0.02
done 2>/dev/null
echo $count
"""


def command_line(script: str, arguments: Sequence[str] = ()) -> str:
    """What to give to the login shell, be it bash, fish or csh: it is replaced by /bin/sh with the script.

    `arguments` are $1 and on.
    """
    words = ["exec", "/bin/sh", "-c", script, "sh", *arguments]
    return " ".join(_quoted(word) for word in words)


def introduced(token: str, body: str) -> str:
    """A script that says `TOKEN PID` on both its outputs, and nothing before is its own: .bashrc files talk too."""
    # In two parts, so that a shell that prints its commands does not print the token.
    half = len(token) // 2
    said = f"printf '%s%s %s\\n' {token[:half]} {token[half:]} $$"
    # Nobody reads it any more when a login shell comes to it too late: then it does not begin.
    return f"{said} && {said} >&2 || exit {NOT_BEGUN}; {body}"


def program(
    argv: Sequence[str],
    *,
    cwd: str | None,
    env: Mapping[str, str],
    reads: bool = False,
    log: str | None = None,
) -> str:
    """A script that becomes the program. With `reads` it keeps its input; its output may go to the end of a file.

    Raises UnsafeName for what no quoting makes safe.
    """
    if not argv or not argv[0] or argv[0].startswith("-"):
        raise UnsafeName(f"{list(argv)[:1]} is no program to run.")
    for name in env:
        if not _NAME.fullmatch(name):
            raise UnsafeName(f"{name!r} is no name of an environment variable: letters, digits and _ only.")
    settings = [f"export {name}={_quoted(value)}" for name, value in env.items()]
    folder = [f"cd {_quoted(path_word(cwd))} || exit {NO_FOLDER}"] if cwd else []
    output = f" >>{_quoted(path_word(log))} 2>&1" if log else ""
    line = " ".join(_quoted(word) for word in argv)
    return "; ".join([*folder, *settings, f"exec {line}{'' if reads else ' </dev/null'}{output}"])


def path_word(path: str) -> str:
    """A path that no program takes for an option."""
    return f"./{path}" if path.startswith("-") else path


def _quoted(word: str) -> str:
    if "\0" in word:
        raise UnsafeName("an argument or variable for a host holds a NUL character.")
    return shlex.quote(word)
