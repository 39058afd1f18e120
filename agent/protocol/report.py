"""The report an agent answers to a poll: its types, its bounds, and the checks that hostile bytes must pass.

Pure: no I/O, no clock, no framework.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

PROTOCOL: Final = 1
MAX_BODY_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_ITEMS: Final = 512
MAX_TEXT_CHARS: Final = 512
MAX_REASONS: Final = 64

_INT64_MAX: Final = 2**63 - 1
_REASON_CHARS: Final = 200

Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARS)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Sha256 = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0, le=_INT64_MAX)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
CpuCount = Annotated[int, Meta(ge=1, le=65_536)]
Load = Annotated[float, Meta(ge=0, le=1_000_000)]
Celsius = Annotated[float, Meta(ge=-273.15, le=1_000)]
Watts = Annotated[float, Meta(ge=0, le=10_000_000)]
Time = Annotated[datetime, Meta(tz=True)]

Kind = Literal["kernel", "os", "agent", "workload", "config"]
KINDS: Final[tuple[Kind, ...]] = ("kernel", "os", "agent", "workload", "config")
VerdictState = Literal["up", "degraded", "down"]
STATES: Final[tuple[VerdictState, ...]] = ("up", "degraded", "down")


class ProtocolError(Exception):
    """The bytes are not a report of this protocol; `reason` says why in one printable line, 200 characters at most."""

    def __init__(self, reason: str) -> None:
        self.reason = "".join(c if c.isprintable() else "?" for c in reason[:_REASON_CHARS])
        super().__init__(self.reason)


# gc=False: the structs hold no reference cycles, and a poller decodes thousands of them a second.
class Verdict(Struct, frozen=True, gc=False):
    """The agent's own judgement of its site; `since` is when that state began, by the site's clock."""

    state: VerdictState
    since: Time
    reasons: Annotated[tuple[Text, ...], Meta(max_length=MAX_REASONS)] = ()


class Resources(Struct, frozen=True, gc=False, kw_only=True):
    """Resource figures of the whole machine; `None` is "this host does not offer it". Totals may be 0.

    `cpu_ratio` is over all cores since the report before; counters count since boot.
    """

    cpu_count: CpuCount
    cpu_ratio: Ratio
    load1: Load | None = None
    mem_bytes: Count
    mem_total_bytes: Count
    disk_bytes: Count
    disk_total_bytes: Count
    net_rx_bytes_total: Count | None = None
    net_tx_bytes_total: Count | None = None
    temp_celsius: Celsius | None = None
    power_watts: Watts | None = None


class Component(Struct, frozen=True, gc=False):
    """One thing with a version; a workload's digest is that of the reference it was pulled by."""

    kind: Kind
    name: Name
    version: Text | None = None
    digest: Text | None = None


class Workload(Struct, frozen=True, gc=False, kw_only=True):
    """One workload at this moment; `cpu_ratio` is of all the machine's cores."""

    name: Name
    managed: bool = False
    state: Word
    health: Word | None = None
    cpu_ratio: Ratio | None = None
    mem_bytes: Count | None = None
    mem_limit_bytes: Count | None = None
    restarts: Count = 0


class Desired(Struct, frozen=True, gc=False):
    """Which desired-state document the site has, and how far it is with it."""

    epoch: Count
    version: Count
    state: Word
    detail: Text = ""


class Busy(Struct, frozen=True, gc=False):
    """The site asks not to be changed before `until`."""

    until: Time
    reason: Text = ""


class Report(Struct, frozen=True, gc=False, kw_only=True):
    """The answer to one poll; all times are UTC by the site's clock.

    `mono_ms` counts since the boot named `boot`, sleep included. `components` is None when the
    caller already holds the set named by `components_digest`. `image_bytes` comes with the components: what the image
    of a workload takes on the disk, by the workload's digest, as far as the site knows.
    """

    protocol: int
    site: UUID
    boot: Word
    mono_ms: Count
    at: Time
    verdict: Verdict
    resources: Resources
    components_digest: Sha256
    components: Annotated[tuple[Component, ...], Meta(max_length=MAX_ITEMS)] | None = None
    image_bytes: Annotated[dict[Sha256, Count], Meta(max_length=MAX_ITEMS)] | None = None
    workloads: Annotated[tuple[Workload, ...], Meta(max_length=MAX_ITEMS)] = ()
    desired: Desired | None = None
    busy: Busy | None = None
    journal_seq: Count = 0
    journal_head: Sha256 | None = None


class _Header(Struct):
    protocol: int


_report_decoder = msgspec.json.Decoder(Report)
_header_decoder = msgspec.json.Decoder(_Header)
_encoder = msgspec.json.Encoder()


def components_digest(components: Iterable[Component]) -> str:
    """Digest of a set of components, whatever its order: `sha256:` + 64 hex digits.

    SHA-256 over the UTF-8 JSON array, sorted by (kind, name) in code-point order, of
    `[kind, name, version, digest]` without blanks or ASCII escapes.
    """
    rows = sorted((c.kind, c.name, c.version, c.digest) for c in components)
    return "sha256:" + sha256(_encoder.encode(rows)).hexdigest()


def encode_report(report: Report) -> bytes:
    """JSON of a report, times as RFC 3339 UTC with milliseconds; the inverse of `decode_report` to the millisecond."""
    fields: dict[str, Any] = msgspec.structs.asdict(report)
    fields["at"] = format_time(report.at)
    fields["verdict"] = {**msgspec.structs.asdict(report.verdict), "since": format_time(report.verdict.since)}
    if report.busy is not None:
        fields["busy"] = {"until": format_time(report.busy.until), "reason": report.busy.reason}
    return _encoder.encode(fields)


def format_time(at: datetime) -> str:
    """RFC 3339 UTC with milliseconds, such as `2026-11-23T21:00:00.000Z`; `at` must be aware."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def decode_report(body: bytes) -> Report:
    """The report in `body`, every bound and rule of this module checked.

    Unknown fields are ignored and of duplicate keys the last wins. The clock is not judged: an `at` in
    the far future is fine. Raises ProtocolError for anything else that is wrong, and nothing but that.
    """
    if len(body) > MAX_BODY_BYTES:
        raise ProtocolError(f"body of {len(body)} bytes is above {MAX_BODY_BYTES}")
    check_text(body)
    try:
        report = _report_decoder.decode(body)
    except (ValueError, RecursionError) as error:  # msgspec's errors and UnicodeDecodeError are ValueErrors
        raise ProtocolError(_explain(body, error)) from None
    _check_meaning(report)
    return report


def check_text(document: bytes) -> None:
    """Raise ProtocolError for JSON that is too deep, not UTF-8, or has control characters or lone surrogates."""
    # Each shortcut is a sound proof in C that the exact, slower check could find nothing.
    if document.count(b"[") + document.count(b"{") > MAX_DEPTH:
        _check_depth(document)
    if not document.isascii() or b"\\" in document or b"\x7f" in document:
        _check_characters(document)


def _explain(body: bytes, error: Exception) -> str:
    """Why the body was refused; another protocol number is said first, for such a body may have any shape."""
    if isinstance(error, msgspec.ValidationError):
        try:
            protocol = _header_decoder.decode(body).protocol
        except (ValueError, RecursionError):
            pass
        else:
            if protocol != PROTOCOL:
                return _other_protocol(protocol)
    return str(error)


def _other_protocol(protocol: int) -> str:
    shown = str(protocol) if abs(protocol) <= _INT64_MAX else "beyond 64 bits"
    return f"protocol {shown}, expected {PROTOCOL}"


def _check_meaning(report: Report) -> None:
    """Rules that no type carries. Raises ProtocolError."""
    if report.protocol != PROTOCOL:
        raise ProtocolError(_other_protocol(report.protocol))
    busy = report.busy
    if report.at.tzinfo is not UTC or report.verdict.since.tzinfo is not UTC or (busy and busy.until.tzinfo is not UTC):
        raise ProtocolError("a time is not in UTC")
    components = report.components
    if components is None:
        return
    if len({(c.kind, c.name) for c in components}) != len(components):
        raise ProtocolError("two components of one kind and name")
    if components_digest(components) != report.components_digest:
        raise ProtocolError("components_digest is not that of the components")


# Possessive and total (an unclosed string matches to the end), so hostile bytes cost linear time.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.|\\\Z)*+(?:"|\Z)', re.DOTALL)
_NOT_BRACKETS: Final = bytes(sorted(set(range(256)) - set(b"[]{}")))
_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")


def _check_depth(body: bytes) -> None:
    """Raise ProtocolError when brackets outside strings nest deeper than MAX_DEPTH (or do not pair up at all)."""
    brackets = _STRING.sub(b"", body).translate(_AS_SQUARE, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        outer = brackets.replace(b"[]", b"")  # takes the innermost level away, in C
        if len(outer) == len(brackets):
            break
        brackets = outer
    if brackets:
        raise ProtocolError(f"brackets nest deeper than {MAX_DEPTH} or do not pair up")


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_CONTROL_ESCAPE = re.compile(rb"\\(?:[bfnrt]|u00(?:[01][0-9A-Fa-f]|7[Ff]|[89][0-9A-Fa-f]))")
_PAIR_ESCAPE = re.compile(rb"\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def _check_characters(body: bytes) -> None:
    """Raise ProtocolError for bad UTF-8, control characters and lone surrogates anywhere, unknown fields and keys too.

    The decoder refuses raw control characters below U+0020 within strings; between tokens, tab and line ends may stand.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise ProtocolError("not UTF-8") from None
    if _CONTROL.search(text):
        raise ProtocolError("a control character")
    if b"\\" not in body:
        return
    # Runs of backslashes pair off from the left, so what is left of each begins an escape.
    escapes = body.replace(b"\\\\", b"")
    if _CONTROL_ESCAPE.search(escapes):
        raise ProtocolError("an escaped control character")
    if _SURROGATE_ESCAPE.search(_PAIR_ESCAPE.sub(b"", escapes)):
        raise ProtocolError("a lone surrogate")
