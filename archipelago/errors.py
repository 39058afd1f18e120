"""What can keep a command from doing its work; each is told in one sentence.

CommandError
├── UsageError     exit 2  the command line or the configuration must be put right first
├── RefusedError   exit 1  the API said no, and why
├── NoAnswerError  exit 1  nothing came back, or nothing that can be read
└── StoppedError   exit 1  it cannot be done now, or the person did not agree
"""

from typing import Any, ClassVar


class CommandError(Exception):
    """Its text is for people; `status` is what the program ends with."""

    status: ClassVar[int] = 1


class UsageError(CommandError):
    """The command line or the configuration must be put right first."""

    status = 2


class NoAnswerError(CommandError):
    """Nothing came back, or nothing that can be read."""


class StoppedError(CommandError):
    """It cannot be done now, or the person did not agree."""


class RefusedError(CommandError):
    """The API said no. `http` is the status, `code` a word for programs, `details` name places."""

    def __init__(self, http: int, code: str, message: str, details: dict[str, Any]) -> None:
        super().__init__(message)
        self.http = http
        self.code = code
        self.details = details
