"""What the agent asks the updater and what that answers: one line of JSON each, through a unix socket.

Pure: no I/O.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from agent.protocol.desired import MAX_DOCUMENT_BYTES
from agent.protocol.report import MAX_TEXT_CHARS

SOCKET: Final = "/run/archipelago-updater.sock"
MAX_REQUEST_BYTES: Final = 1 << 20
MAX_ANSWER_BYTES: Final = 64 << 10
Command = Literal["changes", "stage", "switch", "check", "keep", "restore", "reboot"]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Do a step for this document (an envelope, base64 in JSON). `certificates` are those of keys that sign documents.

    `reboot` needs no document: what was accepted last says whether it may be.
    """

    command: Command
    document: Annotated[bytes, Meta(max_length=MAX_DOCUMENT_BYTES)] = b""
    certificates: Annotated[tuple[Annotated[str, Meta(max_length=16_000)], ...], Meta(max_length=4)] = ()


class Answer(Struct, frozen=True, kw_only=True):
    """`error` is empty when the step was done. `before` and `after` are for people, both empty: nothing must change.

    `state` and `detail` answer `check`, as in agent.apply.part.Check.
    """

    error: str = ""
    transient: bool = False
    before: str = ""
    after: str = ""
    state: Literal["well", "waiting", "reboot", "broken"] = "well"
    detail: str = ""


def one_line(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """Text of other programs, fit for one line and a bound."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
