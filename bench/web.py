"""A signed-in browser's requests, without the browser."""

import re
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit

from bench.stack import PASSWORD
from fleet.stack.errors import StackError

USER = "noc"
SESSION_COOKIE = "__Host-session"
_COOKIE = re.compile(r"(__Host-[a-z]+)=([^;]*)")
_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


@dataclass(frozen=True)
class Answer:
    """One response: `seconds` from the request's first byte to the body's last."""

    status: int
    body: bytes
    seconds: float


class Session:
    """One kept-alive connection, signed in as an operator who sees all sites. Raises StackError when that fails."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self._connection = HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._cookies: dict[str, str] = {}
        self._sign_in()

    @property
    def session_key(self) -> str:
        """Value of the session's cookie."""
        return self._cookies[SESSION_COOKIE]

    def get(self, path: str, *, encoding: str = "br, gzip") -> Answer:
        """GET a path. Raises StackError for anything but 200."""
        answer = self._request("GET", path, headers={"Accept-Encoding": encoding})
        if answer.status != 200:
            raise StackError(f"{path} answered with status {answer.status}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _sign_in(self) -> None:
        found = _TOKEN.search(self.get("/accounts/login/", encoding="identity").body.decode())
        if found is None:
            raise StackError("the sign-in page has no form")
        fields = urlencode({"csrfmiddlewaretoken": found[1], "login": USER, "password": PASSWORD})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Referer": f"{self.url}/accounts/login/"}
        answer = self._request("POST", "/accounts/login/", fields.encode(), headers)
        if answer.status != 302 or SESSION_COOKIE not in self._cookies:
            raise StackError(f"signing in as {USER} was answered with status {answer.status}")

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        began = time.perf_counter()
        self._connection.request(method, path, body, {"Cookie": cookies, **(headers or {})})
        response = self._connection.getresponse()
        content = response.read()
        seconds = time.perf_counter() - began
        for header in response.headers.get_all("Set-Cookie", []):
            if found := _COOKIE.match(header):
                self._cookies[found[1]] = found[2]
        return Answer(response.status, content, seconds)
