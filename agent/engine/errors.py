"""What can go wrong with a container engine."""


class EngineError(Exception):
    """The engine did not do it; the message is one line for people. `status` is that of its answer, if it gave one.

    `transient` is true for what may pass by itself.
    """

    def __init__(self, message: str, *, status: int | None = None, transient: bool = False) -> None:
        super().__init__(one_line(message))
        self.status = status
        self.transient = transient


class EngineAway(EngineError):
    """The engine does not answer at all."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


def one_line(text: str, limit: int = 400) -> str:
    """A text of others in one printable line of at most `limit` characters, as the protocol allows it."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
