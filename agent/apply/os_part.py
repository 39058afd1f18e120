"""The packages of the operating system, as a Part: a thin client of archipelago-updater, which decides for itself."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent.apply.part import ApplyError, Blobs, Change, Check
from agent.protocol.desired import Document
from agent.updater.messages import MAX_ANSWER_BYTES, Answer, Command, Request

ANSWER_S: Final = 3.5 * 3_600  # fetching and installing may each take an hour


class OsPart:
    """See agent.apply.part. `envelope` gives the envelope that a document came in, for the updater believes only that.

    `certificates` are those of the keys that sign documents, as the gateway gave them.
    """

    name = "os"

    def __init__(
        self,
        updater: Path,
        envelope: Callable[[Document], bytes],
        certificates: Callable[[], tuple[str, ...]],
    ) -> None:
        self._updater, self._envelope, self._certificates = updater, envelope, certificates

    def changes(self, document: Document, blobs: Blobs) -> Sequence[Change]:
        """See Part; one change for all packages, for they are installed together."""
        if document.os is None:
            return []
        answer = self._ask("changes", document)
        if not answer.before and not answer.after:
            return []
        return [Change(self.name, "packages", answer.before, answer.after)]

    def stage(self, document: Document, change: Change, blobs: Blobs) -> None:
        """See Part."""
        self._ask("stage", document)

    def switch(self, document: Document, change: Change, blobs: Blobs) -> None:
        """See Part."""
        self._ask("switch", document)

    def check(self, document: Document, change: Change) -> Check:
        """See Part; `reboot` where only a newer boot can prove it."""
        answer = self._ask("check", document)
        return Check(answer.state, answer.detail)

    def keep(self, document: Document, change: Change) -> None:
        """See Part."""
        self._ask("keep", document)

    def restore(self, document: Document, change: Change) -> None:
        """See Part."""
        self._ask("restore", document)

    def reboot(self) -> None:
        """Have the machine booted anew, if the document and this site allow it now.

        Raises ApplyError; it is transient where the site waits for its window.
        """
        self._send(Request(command="reboot"))

    def _ask(self, command: Command, document: Document) -> Answer:
        return self._send(
            Request(command=command, document=self._envelope(document), certificates=self._certificates())
        )

    def _send(self, request: Request) -> Answer:
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(ANSWER_S)
                sock.connect(str(self._updater))
                sock.sendall(msgspec.json.encode(request) + b"\n")
                with sock.makefile("rb") as lines:
                    answer = msgspec.json.decode(lines.readline(MAX_ANSWER_BYTES), type=Answer)
        except (FileNotFoundError, PermissionError, ConnectionRefusedError) as error:
            reason = (error.strerror or str(error)).lower()
            raise ApplyError(
                f"this machine's packages cannot be changed, for archipelago-updater is not set up: {reason}"
            ) from None
        except (OSError, ValueError) as error:
            raise ApplyError(f"archipelago-updater ended before it answered: {error}", transient=True) from None
        if answer.error:
            raise ApplyError(answer.error, transient=answer.transient)
        return answer
