"""`policy`: serve the throughput policy, look at it, and change it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_staging.cli.command import add_command, add_group, repeat, workspace_of

if TYPE_CHECKING:
    from pytest_staging.throughput.access import Token
    from pytest_staging.throughput.client import PolicyClient

PORT = 8642
API_BASE, API_TOKEN, API_TOKENS = "STAGING_POLICY_API", "STAGING_POLICY_TOKEN", "STAGING_POLICY_TOKENS"


def add_commands(commands: Any) -> None:
    policy = add_group(
        commands, "policy", "the throughput policy: serve, look, change", "staging-manager policy status"
    )  # fmt: skip
    status = add_command(policy, "status", "show what is in force", "staging-manager policy status", run_status)
    status.add_argument("--watch", action="store_true", help="show it again and again, until Ctrl-C")
    status.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="with --watch (default: 2)")
    setting = add_command(
        policy, "set", "set the preset", "staging-manager policy set --preset balanced", run_set
    )  # fmt: skip
    overriding = add_command(
        policy,
        "override",
        "another preset for a time; the API ends it by itself",
        "staging-manager policy override --preset conservative --ttl 20m --why 'release tonight'",
        run_override,
    )
    for parser in (setting, overriding):
        parser.add_argument("--preset", required=True, metavar="P", help="conservative, balanced, aggressive, ...")
    overriding.add_argument("--ttl", metavar="TIME", help="90s, 20m or 2h (default: the policy's)")
    overriding.add_argument("--why", default="", metavar="TEXT", help="reason, kept in the audit trail")
    clearing = add_command(policy, "clear", "end the override", "staging-manager policy clear", run_clear)
    for parser in (status, setting, overriding, clearing):
        _add_client_options(parser)
    _add_serve(policy)


def _add_client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--api-base", metavar="URL", help=f"the API (default: {API_BASE}, or http://127.0.0.1:{PORT})"
    )  # fmt: skip
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=f"token for it (default: {API_TOKEN})")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="for its answer (default: 5)")
    parser.add_argument("--json", action="store_true", help="what the API says, as JSON")


def _add_serve(policy: Any) -> None:
    serve = add_command(
        policy, "serve", "run the API and its page, until a signal ends it", "staging-manager policy serve", run_serve
    )
    add = serve.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=PORT, help=f"port, 0 for any that is free (default: {PORT})")
    add("--policy", type=Path, metavar="FILE", help="the policy (default: deploy/throughput.yaml)")
    add("--preset", metavar="P", help="preset to be set at the start (default: the one that was set)")
    add("--state", type=Path, metavar="FOLDER", help="state and audit trail (default: .staging-policy)")
    add("--token-file", type=Path, metavar="FILE", help=f"lines NAME read|operate TOKEN (default: {API_TOKENS})")
    add("--tls-cert", type=Path, metavar="FILE", help="certificate, with its chain")
    add("--tls-key", type=Path, metavar="FILE", help="key of the certificate")
    add("--behind-tls-proxy", action="store_true", help="a proxy in front of this does TLS")
    add("--max-connections", type=int, default=500, metavar="N", help="at once (default: 500)")


def run_status(options: argparse.Namespace) -> int:
    from pytest_staging.model.errors import PolicyUnreachable, UsageProblem

    client = _client(options)
    if not options.watch:
        _print_status(client, options.json)
        return 0
    if not 0.1 <= options.every <= 3600:
        raise UsageProblem("--every needs 0.1 to 3600 seconds.")
    while True:
        if not options.json:
            print(time.strftime("--- %H:%M:%S"))
        try:
            _print_status(client, options.json)
        except PolicyUnreachable as error:  # it may come back: that is what is watched
            print(f"staging-manager: {error}", file=sys.stderr)
        sys.stdout.flush()
        time.sleep(options.every)


def _print_status(client: PolicyClient, as_json: bool) -> None:
    from pytest_staging.throughput.showing import render_status

    status = client.status()
    print(json.dumps(status) if as_json else render_status(status, client.override()))


def run_set(options: argparse.Namespace) -> int:
    done = _client(options).set_preset(options.preset)
    before = f" (before: {done['previous_preset']})" if done["previous_preset"] else ""
    return _print(options, done, f"{done['preset']} is set{before}")


def run_override(options: argparse.Namespace) -> int:
    from pytest_staging.throughput.client import parse_ttl

    ttl_s = None if options.ttl is None else parse_ttl(options.ttl)
    client = _client(options)
    done = client.set_override(options.preset, ttl_s, options.why)
    text = f"{done['preset']} overrides for {done['remaining_seconds']:g} s, until {done['expires_at']}"
    if not options.json and (why := client.status()["fail_safe_reason"]):
        text += f"\nnot in force yet, because the fail-safe wins: {why}"
    ending = shlex.join(["staging-manager", "policy", "clear", *repeat(options, "api_base", "token_file")])
    return _print(options, done, f"{text}\nto end it before: {ending}")


def run_clear(options: argparse.Namespace) -> int:
    return _print(options, _client(options).clear_override(), "no override is in force")


def _print(options: argparse.Namespace, done: Any, text: str) -> int:
    print(json.dumps(done) if options.json else text)
    return 0


def _client(options: argparse.Namespace) -> PolicyClient:
    from pytest_staging.model.errors import UsageProblem
    from pytest_staging.throughput.client import PolicyClient

    if not 0 < options.timeout <= 3600:
        raise UsageProblem("--timeout needs more than 0 and at most 3600 seconds.")
    base = options.api_base or os.environ.get(API_BASE) or f"http://127.0.0.1:{PORT}"
    token = os.environ.get(API_TOKEN)
    if options.token_file:
        token = _read_secret(options.token_file).strip()
    return PolicyClient(base, token or None, options.timeout)


def run_serve(options: argparse.Namespace) -> int:
    from pytest_staging import store, wiring
    from pytest_staging.model.errors import ToolMissing, UsageProblem
    from pytest_staging.throughput.access import check_exposure
    from pytest_staging.throughput.clock import system_clock
    from pytest_staging.throughput.service import PolicyService

    tokens = _tokens(options)
    if bool(options.tls_cert) != bool(options.tls_key):
        raise UsageProblem("--tls-cert and --tls-key go together.")
    check_exposure(options.host, tokens, bool(options.tls_cert), options.behind_tls_proxy)
    if not 1 <= options.max_connections <= 100_000:
        raise UsageProblem("--max-connections needs 1 to 100000.")
    workspace = workspace_of(options)
    policy = store.load_throughput(workspace, options.policy and options.policy.absolute())
    try:
        from pytest_staging.throughput.api import build_app
        from pytest_staging.throughput.door import Places
        from pytest_staging.throughput.serving import Tls, listen, serve
    except ImportError as error:
        raise ToolMissing(
            f"policy serve needs FastAPI and uvicorn: pip install 'pytest-staging[policy]' ({error})"
        ) from error
    tls = Tls(options.tls_cert, options.tls_key) if options.tls_cert else None
    if tls:
        tls.require_usable()
    service = PolicyService(policy, options.state or workspace.root / ".staging-policy", system_clock)
    try:
        poller = wiring.make_policy_poller(policy, service.offer, lambda: system_clock().mono_s)
        if options.preset and service.requested()["preset"] != options.preset:
            service.set_preset("serve", options.preset)
        listening = listen(options.host, options.port)
        scheme, host = "https" if tls else "http", f"[{options.host}]" if ":" in options.host else options.host
        print(f"serving {scheme}://{host}:{listening.getsockname()[1]}", flush=True)
        poller.start()
        try:
            serve(build_app(service), listening, tokens, tls, Places(options.max_connections))
        finally:
            poller.stop()
    finally:
        service.close()
    return 0


def _tokens(options: argparse.Namespace) -> list[Token]:
    """Never from arguments, which everybody on the machine can read."""
    from pytest_staging.throughput.access import parse_tokens

    if options.token_file:
        return parse_tokens(_read_secret(options.token_file), str(options.token_file))
    if text := os.environ.get(API_TOKENS):
        return parse_tokens(text, API_TOKENS)
    return []


def _read_secret(path: Path) -> str:
    from pytest_staging.model.errors import UsageProblem

    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):  # a shell's <(...) is a FIFO
            raise UsageProblem(f"--token-file {path} is no file.")
        if stat.S_IMODE(mode) & 0o077:
            raise UsageProblem(f"{path} can be read by others than its owner. Do: chmod 600 {path}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageProblem(f"--token-file {path} cannot be read: {why}.") from error
