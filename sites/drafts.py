"""What people write to say what a site runs, read strictly. Pure.

A draft is the content of a document as JSON, in which a workload may carry its configuration itself (`config`) in
place of the digest of one that was put before (`config_sha256`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from agent.protocol import ProtocolError
from agent.protocol.desired import (
    MAX_WORKLOADS,
    AgentRelease,
    DesiredWorkload,
    Document,
    OsState,
    Policy,
    WorkloadConfig,
    decode_config,
    digest,
    encode_config,
    encode_document,
)
from agent.protocol.kinds import settle

T = TypeVar("T")
MAX_DRAFT_CHARS: Final = 1 << 20
# What a member must look like, for people.
FORMS: Final = {
    "image": "an image is named with its digest: registry/name@sha256: and 64 hex digits, in lower case",
    "images": "an image is named with its digest: registry/name@sha256: and 64 hex digits, in lower case",
    "name": "a name has up to 63 lower-case letters, digits and hyphens, and no hyphen at either end",
    "volume": "a volume's name has up to 63 lower-case letters, digits and hyphens",
    "blob": "a wheel is named by its digest: sha256: and 64 hex digits",
    "config_sha256": "a configuration is named by its digest: sha256: and 64 hex digits",
    "target": "a path begins with /",
    "folder": "a path begins with /",
}
_NO_TEXT: Final = ("`float`", "`int`", "`bool`", "`date`", "`datetime`")
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


class DraftError(ValueError):
    """What is wrong with a draft; `place` says where (`workloads[0].image`, `line 3, column 7`), or is empty."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.place = place
        self.reason = reason


class _Workload(DesiredWorkload, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A workload that may carry its configuration."""

    config: WorkloadConfig | None = None


class _Draft(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Members of a document that people decide; standards and rollouts do not exist yet."""

    workloads: Annotated[tuple[_Workload, ...], Meta(max_length=MAX_WORKLOADS)] = ()
    agent: AgentRelease | None = None
    os: OsState | None = None
    standard: None = None
    policy: Policy = Policy()
    rollout: None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """`content` as in a DesiredDocument; `configs` are the configurations that were written in it, by digest."""

    content: Mapping[str, Any]
    configs: Mapping[str, bytes] = field(default_factory=dict)


def read_text(text: str) -> Draft:
    """The draft in a text. Raises DraftError for the first thing that is wrong, with its place."""
    return read_value(json_in(text))


def json_in(text: str) -> object:
    """The value of a text of JSON that people wrote: no member twice, no NaN, bounded. Raises DraftError."""
    if len(text) > MAX_DRAFT_CHARS:
        raise DraftError("", f"this is longer than {MAX_DRAFT_CHARS} characters")
    try:
        value: object = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise DraftError(f"line {error.lineno}, column {error.colno}", error.msg) from None
    except RecursionError:
        raise DraftError("", "this is nested too deeply") from None
    except DraftError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise DraftError("", str(error)) from None
    return value


def read_value(value: object) -> Draft:
    """The draft in a value that was JSON. Raises DraftError."""
    draft = converted(value, _Draft)
    workloads, configs = apart(draft.workloads)
    content = {**msgspec.to_builtins(draft), "workloads": workloads}
    check(content)
    return Draft(content, configs)


def converted(value: object, kind: type[T]) -> T:
    """The value as this struct. Raises DraftError, with the place and in words of what was expected there."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        reason, _, path = str(error).partition(" - at `")
        reason, path = reason.rstrip(), path.replace("key` in `", "")
        place = path.rstrip("`").removeprefix("$").lstrip(".")
        if "matching regex" in reason:
            reason = FORMS.get(place.removesuffix("[...]").rpartition(".")[2], reason)
        elif reason.startswith("Expected `str") and reason.endswith(_NO_TEXT):
            reason += "; put it in quotes"
        raise DraftError(place, reason) from None


def apart(workloads: Sequence[DesiredWorkload]) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Workloads without their configurations, and these by digest. Raises DraftError."""
    configs: dict[str, bytes] = {}
    plains = []
    for number, one in enumerate(workloads):
        plain = msgspec.to_builtins(one)
        config = plain.pop("config")
        if config is not None:
            if one.config_sha256 is not None:
                raise DraftError(f"workloads[{number}]", "it has both a `config` and a `config_sha256`")
            body = _config_of(getattr(one, "config", None), number)
            plain["config_sha256"] = digest(body)
            configs[plain["config_sha256"]] = body
        plains.append(plain)
    return plains, configs


def check(content: Mapping[str, Any]) -> None:
    """Hold content to all that a site would: a document is made of it, and thrown away. Raises DraftError."""
    heading = {"fleet": "x", "provider": 1, "site": UUID(int=0), "epoch": 1, "version": 1, "prev_sha256": None}
    heading |= {"issued_at": _EPOCH, "expires_at": _EPOCH + timedelta(days=1), "hold": False}
    try:
        encode_document(msgspec.convert({**content, **heading}, Document))
    except (msgspec.ValidationError, ProtocolError) as error:
        raise DraftError("", str(error)) from None


def text_of(value: Mapping[str, Any]) -> str:
    """A draft as a text to be read and changed."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def value_of(content: Mapping[str, Any] | None, bodies: Mapping[str, bytes]) -> dict[str, Any]:
    """The draft that says the same as `content`, to be changed; configurations found in `bodies` are written out."""
    draft = shape(content)
    workloads = []
    for one in draft.workloads:
        plain = msgspec.to_builtins(one)
        del plain["config"]
        workloads.append(written_out(plain, bodies))
    plain = msgspec.to_builtins(draft)
    return {"workloads": workloads, "agent": plain["agent"], "os": plain["os"]}


def written_out(workload: Mapping[str, Any], bodies: Mapping[str, bytes]) -> dict[str, Any]:
    """A workload with its configuration in place of the digest, where that is found in `bodies`."""
    plain = dict(workload)
    body = bodies.get(plain.get("config_sha256") or "")
    if body is not None:
        del plain["config_sha256"]
        plain["config"] = msgspec.to_builtins(decode_config(body))
    return plain


def configs_named(workloads: Iterable[Mapping[str, Any]]) -> set[str]:
    """Digests of the configurations that these workloads name."""
    return {one["config_sha256"] for one in workloads if one.get("config_sha256")}


def shape(content: Mapping[str, Any] | None) -> _Draft:
    """Content that was given out, with every member; nothing for None. Members that are not people's are left out."""
    kept = {name: value for name, value in (content or {}).items() if name in ("workloads", "agent", "os")}
    return msgspec.convert(kept, _Draft)


def _config_of(config: WorkloadConfig | None, number: int) -> bytes:
    assert config is not None
    try:
        return encode_config(config)
    except ProtocolError as error:
        raise DraftError(f"workloads[{number}].config", error.reason) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise DraftError(name, "it is there twice")
        found[name] = value
    return found


def _no_constant(text: str) -> None:
    raise DraftError("", f"{text} is no number")


settle(__name__)
