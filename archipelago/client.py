"""The API, asked over HTTP/1.1. Certificates are verified; a token goes in clear to this machine alone."""

import http.client
import ipaddress
import json
import ssl
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from archipelago import __version__
from archipelago.config import Config
from archipelago.errors import NoAnswerError, RefusedError, UsageError

TIMEOUT_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 64 << 20
PAGE: Final = 500
Json = dict[str, Any]


class Client:
    """Asks one API. Raises RefusedError for what it refuses, NoAnswerError where it cannot be asked."""

    def __init__(self, config: Config, timeout_s: float = TIMEOUT_S) -> None:
        self._where = _address(config.url)
        self._token = config.token
        self._timeout_s = timeout_s
        if not (config.token.isascii() and config.token.isprintable()):
            raise UsageError("The token is none: it has characters that no token has.")
        try:
            self._tls = ssl.create_default_context(cafile=config.ca) if self._where.scheme == "https" else None
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"The certificates in {config.ca} cannot be read: {error}.") from None

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Json:
        """What a GET answers; members of the query that are None or empty are left out."""
        given = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        return self._twice("GET", f"{path}?{urlencode(given)}" if given else path, None, "")

    def pages(self, path: str, query: Mapping[str, Any] | None = None, limit: int | None = None) -> Iterator[Json]:
        """The items of a list, page after page; at most `limit` of them."""
        cursor, left = None, limit
        while True:
            size = PAGE if left is None else min(PAGE, left)
            page = self.get(path, {**(query or {}), "limit": size, "cursor": cursor})
            yield from page["items"]
            cursor = page["next"]
            left = None if left is None else left - len(page["items"])
            if cursor is None or left == 0:
                return

    def send(self, method: str, path: str, body: Json) -> Json:
        """What a change answers. It is sent again if no answer came, with a key by which it is done once."""
        return self._twice(method, path, body, str(uuid.uuid4()))

    def _twice(self, method: str, path: str, body: Json | None, key: str) -> Json:
        try:
            return self._ask(method, path, body, key)
        except NoAnswerError:
            if method == "PUT":  # it heeds no key; the hash that it expects guards it
                raise
            return self._ask(method, path, body, key)

    def _ask(self, method: str, path: str, body: Json | None, key: str) -> Json:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        headers["User-Agent"] = f"archipelago-cli/{__version__}"
        if body is not None:
            headers |= {"Content-Type": "application/json", "Idempotency-Key": key}
        connection = self._connection()
        try:
            text = None if body is None else json.dumps(body).encode()
            connection.request(method, f"{self._where.path.rstrip('/')}/api/v1{path}", text, headers)
            answer = connection.getresponse()
            data = answer.read(MAX_ANSWER_BYTES + 1)
        except ssl.SSLCertVerificationError as error:
            raise UsageError(f"{self._where.netloc} does not prove who it is: {error.verify_message}.") from None
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(
                f"{self._where.netloc} does not answer: {str(error) or type(error).__name__}."
            ) from None
        finally:
            connection.close()
        return self._read(answer.status, data)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._where.hostname or "", self._where.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._tls)

    def _read(self, status: int, data: bytes) -> Json:
        try:
            value = json.loads(data) if len(data) <= MAX_ANSWER_BYTES else None
        except ValueError:
            value = None
        if isinstance(value, dict) and 200 <= status < 300:
            return value
        error = value.get("error") if isinstance(value, dict) else None
        if not isinstance(error, dict):
            words = f"{self._where.netloc} answered {status}, and not as Archipelago does"
            raise NoAnswerError(f"{words}: is the address right?")
        details = error.get("details")
        told = details if isinstance(details, dict) else {}
        raise RefusedError(status, str(error.get("code")), str(error.get("message")), told)


def path_of(*parts: object) -> str:
    """A path of these parts, each quoted."""
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)


def _address(url: str) -> SplitResult:
    try:
        where = urlsplit(url)
        usable = where.scheme in ("http", "https") and bool(where.hostname) and (where.port is None or where.port > 0)
    except ValueError:
        usable = False
    if not usable or where.query or where.fragment or where.username or not url.isprintable():
        raise UsageError(f"{url!r} is no address: it is like https://archipelago.example.")
    if where.scheme == "http" and not _is_here(where.hostname or ""):
        raise UsageError(f"{url} would carry the token in clear: use https.")
    return where


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
