"""Which files are taken as evidence: few kinds, told by their bytes and never by their name. Pure."""

import re
from typing import Final

MOST_BYTES: Final = 2 * 1024 * 1024
MOST_FILES: Final = 5
MAX_NAME_CHARS: Final = 120
KINDS: Final = "PDF, PNG, JPEG or plain text"
_MAGIC: Final = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
)
_UNSAFE: Final = re.compile(r"[^\w.\- ()]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class AttachmentError(ValueError):
    """Why a file is not taken, in a sentence."""


def kind_of(body: bytes) -> str:
    """The content type of a file. Raises AttachmentError for what is empty, too large, or of another kind."""
    if not body:
        raise AttachmentError("The file is empty.")
    if len(body) > MOST_BYTES:
        raise AttachmentError(f"A file has at most {MOST_BYTES // 1024 // 1024} MiB.")
    for magic, kind in _MAGIC:
        if body.startswith(magic):
            return kind
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\x00"
    if _CONTROL.search(text):
        raise AttachmentError(f"This is taken: {KINDS}.")
    return "text/plain"


def safe_name(name: str) -> str:
    """The name without a path and anything that a file system or a header could take amiss."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = _UNSAFE.sub("_", last).strip(" .")[-MAX_NAME_CHARS:].strip(" .")
    return kept or "evidence"
