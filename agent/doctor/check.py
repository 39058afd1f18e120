"""What one check found."""

from typing import Literal

from msgspec import Struct

Level = Literal["ok", "warning", "problem"]


class Check(Struct, frozen=True):
    """`remedy` says what to do, in an imperative sentence; empty where all is well."""

    name: str
    level: Level
    sentence: str
    remedy: str = ""


def ok(name: str, sentence: str) -> Check:
    """All is well."""
    return Check(name, "ok", sentence)


def warning(name: str, sentence: str, remedy: str) -> Check:
    """The agent works, but somebody should look."""
    return Check(name, "warning", sentence, remedy)


def problem(name: str, sentence: str, remedy: str) -> Check:
    """The agent does not work as it should."""
    return Check(name, "problem", sentence, remedy)
