"""What every request passes before the API sees it: whose it is, whether it may, and that it is not too large."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from pytest_staging.throughput.access import (
    EVERYBODY_HERE,
    Role,
    Token,
    Visitor,
    find_visitor,
    is_loopback,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

GUARDED = "/workflows/"
CHANGING = ("PUT", "DELETE", "PATCH")
MAX_BODY_BYTES = 16_384
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Gate:
    """An ASGI application in front of another. Without tokens only this machine may speak, and only to its own name."""

    def __init__(self, app: App, tokens: Sequence[Token] = ()) -> None:
        self._app = app
        self._tokens = tuple(tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        refusal = self._refusal(scope, headers)
        if refusal:
            await _refuse(send, *refusal)
            return
        if scope["method"] == "GET" and not headers.get(b"content-length"):
            await self._app(scope, receive, _dressed(send))
            return
        body = await _read(receive)
        if body is None:
            await _refuse(send, 413, f"a body may have {MAX_BODY_BYTES} bytes")
            return
        await self._app(scope, _replaying(body, receive), _dressed(send))

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > MAX_BODY_BYTES:
            return 413, f"a body may have {MAX_BODY_BYTES} bytes"
        # A page of the web that names this machine as its own host would otherwise be let in by the user's browser.
        if not self._tokens and not is_loopback(_host(headers)):
            return 421, "without tokens this API answers on loopback only: use its address, such as 127.0.0.1"
        visitor = self._visitor(headers)
        scope["policy_visitor"] = visitor
        if not scope["path"].startswith(GUARDED):
            return None
        if visitor is None:
            return 401, "this needs a token: Authorization: Bearer TOKEN"
        if scope["method"] in CHANGING and visitor.role is not Role.OPERATE:
            return 403, f"the token of {visitor.name} may read; this needs one with the role operate"
        return None

    def _visitor(self, headers: dict[bytes, bytes]) -> Visitor | None:
        if not self._tokens:
            return EVERYBODY_HERE
        return find_visitor(self._tokens, headers.get(b"authorization", b""))


def _host(headers: dict[bytes, bytes]) -> str:
    host = headers.get(b"host", b"").decode("latin-1")
    return host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None when it is too large, whatever its length was said to be."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _replaying(body: bytes, receive: Receive) -> Receive:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else await receive()

    return again


def _dressed(send: Send) -> Send:
    async def with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return with_headers


async def _refuse(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *HEADERS]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 413:  # what is left of the body is nobody's to read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
