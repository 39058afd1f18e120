"""A small client of the Engine API at a unix socket. It blocks: never call it on an event loop.

Each call has a connection of its own, so threads may share a client. Answers are bounded, redirects are errors.
"""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from agent.engine.errors import EngineAway, EngineError, one_line
from agent.engine.messages import Fault, Version

T = TypeVar("T")
OLDEST, NEWEST = (1, 41), (1, 44)  # versions of the API that are spoken here: Docker 20.10, Podman 3, and newer
MAX_ANSWER_BYTES: Final = 8 << 20
MAX_LINE_BYTES: Final = 1 << 20
_FAULT_BYTES: Final = 1 << 16
_READ_BYTES: Final = 1 << 16
Query = Mapping[str, str | int | bool]


class Engine:
    """One container engine, Docker or Podman."""

    def __init__(self, path: Path, timeout_s: float = 10.0) -> None:
        """`path` is the socket; `timeout_s` bounds every wait for the engine that a call does not bound itself."""
        self.path = path
        self._timeout_s = timeout_s
        self._spoken: tuple[str, bool] | None = None

    @property
    def is_podman(self) -> bool:
        """Whether it is Podman, which runs no health checks by itself where there is no systemd. Raises EngineError."""
        return self._negotiate()[1]

    def get(self, path: str, kind: type[T], **query: str | int | bool) -> T:
        """An answer, read as `kind`. Raises EngineError."""
        return self._decode(self._call("GET", self._prefix() + path, query), kind)

    def create(self, path: str, body: object, kind: type[T], **query: str | int | bool) -> T:
        """Post JSON, and read the answer as `kind`. Raises EngineError."""
        return self._decode(self._call("POST", self._prefix() + path, query, body=body), kind)

    def post(self, path: str, *, timeout_s: float | None = None, **query: str | int | bool) -> None:
        """Have something done; that it is so already (304) is well. Raises EngineError."""
        self._call("POST", self._prefix() + path, query, timeout_s=timeout_s)

    def delete(self, path: str, **query: str | int | bool) -> None:
        """Remove something. Raises EngineError, with the status 404 where there is no such thing."""
        self._call("DELETE", self._prefix() + path, query, timeout_s=6 * self._timeout_s)

    def probe(self, container: str, timeout_s: float) -> None:
        """Have Podman run a container's health check once, now; what came of it is in the container's state."""
        self._call("GET", f"/v4.0.0/libpod/containers/{name_in_path(container)}/healthcheck", {}, timeout_s=timeout_s)

    def stream(self, path: str, headers: Mapping[str, str], idle_s: float, **query: str) -> Iterator[bytes]:
        """The lines of an answer as they come; each within `idle_s`. Raises EngineError."""
        target = _target(self._prefix() + path, query)
        with self._answer("POST", target, None, headers, idle_s) as answer:
            # Not readline(), which takes a connection that breaks between two chunks for the end of the answer.
            rest = b""
            while data := answer.read1(_READ_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                yield from lines
                if len(rest) > MAX_LINE_BYTES:
                    raise EngineError("the engine's answer has a line without end")
            _check_whole(answer)
            if rest:
                yield rest

    def _prefix(self) -> str:
        return f"/v{self._negotiate()[0]}"

    def _negotiate(self) -> tuple[str, bool]:
        """The newest version of the API that both speak, and whether the engine is Podman; asked once."""
        if self._spoken is None:
            told = self._decode(self._call("GET", "/version", {}), Version)
            chosen = min(NEWEST, _version(told.api_version))
            if chosen < max(OLDEST, _version(told.min_api_version)):
                raise EngineError(
                    f"the engine speaks versions {told.min_api_version} to {told.api_version} of the Engine API, this"
                    f" agent {_dotted(OLDEST)} to {_dotted(NEWEST)}"
                )
            parts = told.components or ()
            self._spoken = _dotted(chosen), any(part.name.startswith("Podman") for part in parts)
        return self._spoken

    def _call(
        self, method: str, path: str, query: Query, *, body: object = None, timeout_s: float | None = None
    ) -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        data = None if body is None else json.dumps(body).encode()
        with self._answer(method, _target(path, query), data, headers, timeout_s or self._timeout_s) as answer:
            found = answer.read(MAX_ANSWER_BYTES + 1)
            if len(found) <= MAX_ANSWER_BYTES:
                _check_whole(answer)
        if len(found) > MAX_ANSWER_BYTES:
            raise EngineError(f"the engine's answer is above {MAX_ANSWER_BYTES} bytes")
        return found

    @contextmanager
    def _answer(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to one request, its status judged; the connection ends with the block."""
        with closing(_Connection(self.path, timeout_s)) as connection, self._plainly(timeout_s):
            connection.request(method, target, body=body, headers=dict(headers))
            answer = connection.getresponse()
            _judge(answer)
            yield answer

    @contextmanager
    def _plainly(self, timeout_s: float) -> Iterator[None]:
        """Say in plain words why the engine does not answer; and ask anew what it speaks, it may be another then."""
        try:
            yield
            return
        except TimeoutError:
            reason = f"the engine did not answer within {timeout_s:g} s"
        except FileNotFoundError:
            reason = f"the engine's socket {self.path} is not there"
        except PermissionError:
            reason = f"permission denied at {self.path}: add the agent's user to the group of the socket"
        except ConnectionRefusedError:
            reason = f"nobody answers at the engine's socket {self.path}"
        except (http.client.HTTPException, OSError) as error:
            reason = f"the engine broke off: {error or type(error).__name__}"
        self._spoken = None
        raise EngineAway(reason)

    def _decode(self, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except (ValueError, RecursionError) as error:
            raise EngineError(f"the engine's answer cannot be read: {error}") from None


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("engine", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Called by HTTPConnection."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def name_in_path(name: str) -> str:
    """A name or image reference as a part of a path."""
    return quote(name, safe=":@/")


def _target(path: str, query: Query) -> str:
    said = {key: str(value).lower() if isinstance(value, bool) else value for key, value in query.items()}
    return f"{path}?{urlencode(said)}" if said else path


def _check_whole(answer: http.client.HTTPResponse) -> None:
    """Raise HTTPException for an answer that ended before its announced length, which reading in parts passes over."""
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)


def _judge(answer: http.client.HTTPResponse) -> None:
    """Raise EngineError for an answer that is none."""
    if answer.status < 300 or answer.status == http.HTTPStatus.NOT_MODIFIED:
        return
    if answer.status < 400:
        raise EngineError("the engine answers with a redirect, which is not followed", status=answer.status)
    body = answer.read(_FAULT_BYTES)
    try:
        fault = msgspec.json.decode(body, type=Fault)
        said = fault.message or fault.cause
    except ValueError:
        said = body.decode(errors="replace")
    said = one_line(said) or f"status {answer.status}"
    raise EngineError(said, status=answer.status, transient=answer.status in {502, 503, 504})


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    try:
        return int(major), int(minor)
    except ValueError:
        raise EngineError(f"the engine says that its API is of version {text!r}") from None


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
