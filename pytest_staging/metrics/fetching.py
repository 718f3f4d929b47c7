"""One GET of a metrics endpoint, bounded in time and size whatever it answers."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from pytest_staging.deadline import Deadline

if TYPE_CHECKING:
    import httpx

MAX_BODY_BYTES = 4 << 20


class Endpoint:
    """A URL that is asked again and again over one connection.

    `login` is a user and a password, kept nowhere else; over https it is shown only to who has a certificate that this
    machine trusts (SSL_CERT_FILE names others).
    """

    def __init__(self, url: str, timeout_s: float, login: tuple[str, str] | None = None) -> None:
        import httpx

        self.url = url
        self._timeout_s = timeout_s
        self._deadline = Deadline()
        verify = ssl.create_default_context() if login else False
        # Bodies that are compressed all the same are refused: a few kB of them may be a gigabyte.
        self._client = httpx.Client(
            timeout=timeout_s, trust_env=False, verify=verify, auth=login, headers={"Accept-Encoding": "identity"}
        )

    def fetch(self) -> str:
        """The body of a 200 answer, in the charset that the answer names or UTF-8.

        Raises ValueError when it is larger than MAX_BODY_BYTES, or comes slower than the time limit
        in all, from its first byte to its last, or is no such text;
        httpx.HTTPError when there is no answer.
        """
        late = ValueError(f"timed out: no whole answer within {self._timeout_s:g} s")
        with (
            self._deadline.within(self._timeout_s, late),
            self._client.stream("GET", self.url, extensions=self._deadline.extensions) as response,
        ):
            if response.status_code != 200:
                raise ValueError(f"answered {response.status_code}")
            if encoding := response.headers.get("Content-Encoding"):
                raise ValueError(f"answered in the encoding {encoding!r}, which was not asked for")
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise ValueError("never ends or is too large")
            return _decoded(bytes(body), response)

    def close(self) -> None:
        """Ends the connection. May be called twice, also while a fetch is under way."""
        self._client.close()


def _decoded(body: bytes, response: httpx.Response) -> str:
    charset = response.charset_encoding or "utf-8"
    try:
        return body.decode("utf-8-sig" if charset.lower() in ("utf-8", "utf8") else charset)
    except LookupError as error:
        raise ValueError(f"answered in the unknown charset {charset!r}") from error
