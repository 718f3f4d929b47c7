"""The grammar of Docker Compose as argparse parsers: `docker compose` (v2) and `docker-compose` (v1).

Written down here because the gate runs where no Docker is. SERVICE and PROFILE are looked up by the gate.
"""

from __future__ import annotations

import argparse

_SHARED = "-f,--file=COMPOSE_FILE+ -p,--project-name=NAME --profile=COMPOSE_PROFILE+ --project-directory=PATH"
_SHARED += " --env-file=PATH+ --compatibility --ansi=WHEN -v,--version"
_ROOT = {
    1: f"{_SHARED} -c,--context=NAME --verbose --log-level=LEVEL --no-ansi -H,--host=HOST --tls --tlscacert=PATH"
    " --tlscert=PATH --tlskey=PATH --tlsverify --skip-hostname-check",
    2: f"{_SHARED} --all-resources --dry-run --parallel=N --progress=TYPE --verbose",
}
_UP = "-d,--detach --no-color --quiet-pull --no-deps --force-recreate --always-recreate-deps --no-recreate --no-build"
_UP += " --no-start --build --abort-on-container-exit --attach-dependencies -t,--timeout=SECONDS"
_UP += " -V,--renew-anon-volumes --remove-orphans --exit-code-from=SERVICE --scale=SCALE+ --no-log-prefix"
_RUN = "-d,--detach --name=NAME --entrypoint=TEXT -e,--env=ASSIGNMENT+ -l,--label=LABEL+ -u,--user=USER --no-deps --rm"
_RUN += " -p,--publish=PORTS+ --use-aliases -v,--volume=VOLUME+ -T -w,--workdir=PATH"
_EXEC = "-d,--detach --privileged -u,--user=USER -T --index=N -e,--env=ASSIGNMENT+ -w,--workdir=PATH"
_BUILD = "--build-arg=ASSIGNMENT+ -m,--memory=BYTES --no-cache --pull -q,--quiet"
_CONFIG = "--resolve-image-digests --no-interpolate -q,--quiet --profiles --services --volumes --hash=TEXT"
_LOGS = "--no-color -f,--follow -t,--timestamps --no-log-prefix"

# Subcommand to what follows it (S* services, S one service, A* anything) and its options.
_COMMANDS: dict[int, dict[str, tuple[str, str]]] = {
    1: {
        "build": ("S*", f"{_BUILD} --compress --force-rm --no-rm --parallel --progress=TYPE"),
        "config": ("", _CONFIG),
        "create": ("S*", "--force-recreate --no-recreate --no-build --build"),
        "down": ("", "--rmi=TYPE -v,--volumes --remove-orphans -t,--timeout=SECONDS"),
        "events": ("S*", "--json"),
        "exec": ("S A*", _EXEC),
        "help": ("A*", ""),
        "images": ("S*", "-q,--quiet"),
        "kill": ("S*", "-s=SIGNAL"),
        "logs": ("S*", f"{_LOGS} --tail=LINES"),
        "pause": ("S*", ""),
        "port": ("S A*", "--protocol=NAME --index=N"),
        "ps": ("S*", "-q,--quiet --services --filter=FILTER -a,--all"),
        "pull": ("S*", "--ignore-pull-failures --parallel --no-parallel -q,--quiet --include-deps"),
        "push": ("S*", "--ignore-push-failures"),
        "restart": ("S*", "-t,--timeout=SECONDS"),
        "rm": ("S*", "-f,--force -s,--stop -v -a,--all"),
        "run": ("S A*", f"{_RUN} --service-ports"),
        "scale": ("SCALE*", "-t,--timeout=SECONDS"),
        "start": ("S*", ""),
        "stop": ("S*", "-t,--timeout=SECONDS"),
        "top": ("S*", ""),
        "unpause": ("S*", ""),
        "up": ("S*", _UP),
        "version": ("", "--short"),
    },
    2: {
        "attach": ("S", "--detach-keys=KEYS --index=N --no-stdin --sig-proxy"),
        "build": ("S*", f"{_BUILD} --builder=NAME --check --print --provenance=TEXT --push --sbom=TEXT --ssh=TEXT"
                        " --with-dependencies"),
        "commit": ("S A*", "-a,--author=TEXT -c,--change=TEXT+ --index=N -m,--message=TEXT -p,--pause"),
        "config": ("S*", f"{_CONFIG} --environment --format=FORMAT --images --lock-image-digests --models --networks"
                         " --no-consistency --no-env-resolution --no-normalize --no-path-resolution -o,--output=PATH"
                         " --variables"),
        "cp": ("A*", "--all -a,--archive -L,--follow-link --index=N"),
        "create": ("S*", "--build --force-recreate --no-build --no-recreate --pull=POLICY --quiet-pull --remove-orphans"
                         " --scale=SCALE+ -y,--yes"),
        "down": ("S*", "--remove-orphans --rmi=TYPE -t,--timeout=SECONDS -v,--volumes"),
        "events": ("S*", "--json --since=TIME --until=TIME"),
        "exec": ("S A*", f"{_EXEC} --no-TTY --no-tty"),
        "export": ("S", "--index=N -o,--output=PATH"),
        "images": ("S*", "--format=FORMAT -q,--quiet"),
        "kill": ("S*", "--remove-orphans -s,--signal=SIGNAL"),
        "logs": ("S*", f"{_LOGS} -n,--tail=LINES --index=N --since=TIME --until=TIME"),
        "ls": ("", "-a,--all --filter=FILTER+ --format=FORMAT -q,--quiet"),
        "pause": ("S*", ""),
        "port": ("S A*", "--protocol=NAME --index=N"),
        "ps": ("S*", "-a,--all --filter=FILTER+ --format=FORMAT --no-trunc --orphans -q,--quiet --services"
                     " --status=STATUS+"),
        "publish": ("A*", "--app --oci-version=TEXT --resolve-image-digests --with-env -y,--yes"),
        "pull": ("S*", "--ignore-buildable --ignore-pull-failures --include-deps --policy=POLICY -q,--quiet"),
        "push": ("S*", "--ignore-push-failures --include-deps -q,--quiet"),
        "restart": ("S*", "--no-deps -t,--timeout=SECONDS"),
        "rm": ("S*", "-a,--all -f,--force -s,--stop -v,--volumes"),
        "run": ("S A*", f"{_RUN} --build --cap-add=NAME+ --cap-drop=NAME+ --env-from-file=PATH+ -i,--interactive"
                        " --no-TTY --no-tty --pull=POLICY -q,--quiet --quiet-build --quiet-pull --remove-orphans"
                        " -P,--service-ports"),
        "scale": ("SCALE*", "--no-deps"),
        "start": ("S*", "--wait --wait-timeout=SECONDS"),
        "stats": ("S", "-a,--all --format=FORMAT --no-stream --no-trunc"),
        "stop": ("S*", "-t,--timeout=SECONDS"),
        "top": ("S*", ""),
        "unpause": ("S*", ""),
        "up": ("S*", f"{_UP} --abort-on-container-failure --attach=SERVICE+ --menu --no-attach=SERVICE+ --pull=POLICY"
                     " --quiet-build --timestamps --wait --wait-timeout=SECONDS -w,--watch -y,--yes"),
        "version": ("", "-f,--format=FORMAT --short"),
        "volumes": ("S*", "--format=FORMAT -q,--quiet"),
        "wait": ("S*", "--down-project"),
        "watch": ("S*", "--no-up --prune --quiet"),
    },
}  # fmt: skip
_POSITIONALS = {"S": ("SERVICE", None), "S*": ("SERVICE", "*"), "A*": ("ARGUMENT", argparse.REMAINDER),
                "SCALE*": ("SCALE", "*")}  # fmt: skip


def build_compose_parser(generation: int) -> argparse.ArgumentParser:
    """The parser of Compose v1 or v2. Every option that may be given again collects its values."""
    program = {1: "docker-compose", 2: "docker compose"}[generation]
    parser = argparse.ArgumentParser(prog=program, add_help=False, allow_abbrev=False)
    _add_options(parser, f"{_ROOT[generation]} -h,--help")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, (positionals, options) in _COMMANDS[generation].items():
        command = commands.add_parser(name, prog=f"{program} {name}", add_help=False, allow_abbrev=False)
        _add_options(command, f"{options} -h,--help" + (" --dry-run" if generation == 2 else ""))
        for number, kind in enumerate(positionals.split()):
            metavar, count = _POSITIONALS[kind]
            command.add_argument(f"positional{number}", metavar=metavar, nargs=count)
    return parser


def _add_options(parser: argparse.ArgumentParser, text: str) -> None:
    for spec in text.split():
        names, _, metavar = spec.partition("=")
        if not metavar:
            parser.add_argument(*names.split(","), action="store_true")
        else:
            action = "append" if metavar.endswith("+") else "store"
            parser.add_argument(*names.split(","), metavar=metavar.rstrip("+"), action=action)
