"""The routes that an agent answers at, their methods and bounds, and how a request's target is read. Pure."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qs, urlsplit

from agent.protocol.desired import MAX_DOCUMENT_BYTES, MAX_PIECE_BYTES

MAX_REQUEST_BYTES: Final = 16_384
MAX_TARGET_BYTES: Final = 2_048
ROUTE: Final = "/v1/report"
JOURNAL_ROUTE: Final = "/v1/journal"
ACK_ROUTE: Final = "/v1/journal/ack"
IDENTITY_ROUTE: Final = "/v1/identity"
DESIRED_ROUTE: Final = "/v1/desired"
BLOBS_ROUTE: Final = "/v1/blobs/"
# What may come with a request to these; all others are bounded by MAX_REQUEST_BYTES.
_LARGE: Final = ((DESIRED_ROUTE.encode(), MAX_DOCUMENT_BYTES), (BLOBS_ROUTE.encode(), MAX_PIECE_BYTES))
RANGE_HEADER: Final = b"content-range"
_METHODS: Final = {
    ROUTE: (b"GET",),
    JOURNAL_ROUTE: (b"GET",),
    ACK_ROUTE: (b"POST",),
    IDENTITY_ROUTE: (b"GET", b"PUT"),
    DESIRED_ROUTE: (b"GET", b"PUT"),
}
_BLOB_METHODS: Final = (b"PUT",)


@lru_cache(maxsize=1_024)
def parse_target(target: bytes) -> tuple[str, str | None]:
    """Path and `components` digest of a request target. Raises ValueError when it is no URL."""
    path, query = split_target(target)
    return path, query.get("components")


def split_target(target: bytes) -> tuple[str, dict[str, str]]:
    """Path and query of a request target; of a name that comes twice, the first. Raises ValueError."""
    parts = urlsplit(target.decode("ascii"))
    return parts.path, {name: values[0] for name, values in parse_qs(parts.query, max_num_fields=8).items()}


def methods_of(path: str) -> tuple[bytes, ...] | None:
    """The methods that are served at a path; None where there is no such path."""
    return _BLOB_METHODS if path.startswith(BLOBS_ROUTE) else _METHODS.get(path)


def body_bytes(target: bytes) -> int:
    """How many bytes may come with a request, for a target or the begin of one."""
    return next((bytes_ for prefix, bytes_ in _LARGE if target.startswith(prefix)), 0)


def number_in(query: Mapping[str, str], name: str, default: int) -> int:
    """A whole number of the query. Raises ValueError."""
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 19:
        raise ValueError(f"{name} is not a number")
    return int(text)
