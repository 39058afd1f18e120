"""The one tree of errors that a person or a program may be told about.

DomainError
├── NotFound       404  it does not exist, or the viewer may not know that it does
├── NotAllowed     403  the viewer sees the object but may not do this to it
├── Invalid        422  what was sent cannot be taken; `details` names the fields
├── Conflict       409  it is not in a state for this, or somebody else changed it first
└── Unavailable    503  a part of the system is away; try again
"""

from typing import Any, ClassVar


class DomainError(Exception):
    """Says `code` (stable, for programs), `message` (for people) and `status` (HTTP)."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400

    def __init__(self, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or {}


class NotFound(DomainError):
    """It does not exist, or the viewer may not know that it does."""

    code = "not_found"
    status = 404


class NotAllowed(DomainError):
    """The viewer may see the object but not do this to it."""

    code = "not_allowed"
    status = 403


class Invalid(DomainError):
    """What was sent cannot be taken; `details` maps field names to reasons."""

    code = "invalid"
    status = 422


class Conflict(DomainError):
    """The object is not in a state for this."""

    code = "conflict"
    status = 409


class Unavailable(DomainError):
    """A part of the system is away; trying again may help."""

    code = "unavailable"
    status = 503
