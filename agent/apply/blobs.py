"""The blobs that documents name: taken in pieces, named by their hash, bounded. The oldest that none names go first."""

import errno
import logging
import os
import re
import threading
from collections.abc import Callable, Set
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from agent.apply.part import ApplyError
from agent.apply.store import sync_folder
from agent.protocol.desired import MAX_BLOB_BYTES, MAX_PIECE_BYTES, PutBlob

FOLDER: Final = "blobs"
BOUND_BYTES: Final = 8 * MAX_BLOB_BYTES
_PARTIAL: Final = ".part"
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_RANGE: Final = re.compile(r"bytes (?:(\d{1,9})-(\d{1,9})|\*)/(\d{1,9})")
log = logging.getLogger("agent")


class Piece(NamedTuple):
    """Where a piece belongs: at `first`, in a blob of `total` bytes. `first` is None for the question how far it is."""

    first: int | None
    total: int


def read_range(header: str | None, size: int) -> Piece:
    """The place of a body of `size` bytes by its Content-Range; without one the body is the whole blob.

    Raises ValueError.
    """
    if header is None:
        return Piece(0, size)
    found = _RANGE.fullmatch(header)
    if found is None:
        raise ValueError("Content-Range is `bytes FIRST-LAST/TOTAL`, or `bytes */TOTAL`")
    first, last, total = found.groups()
    if first is None:
        if size:
            raise ValueError("a question has no body")
        return Piece(None, int(total))
    if int(last) - int(first) + 1 != size or int(last) >= int(total):
        raise ValueError("Content-Range does not fit the body")
    return Piece(int(first), int(total))


class BlobFolder:
    """Blobs in one folder, by their hash; sites of one process may share it. For any thread."""

    def __init__(self, folder: Path, named: Callable[[], Set[str]], *, bound_bytes: int = BOUND_BYTES) -> None:
        """`named` gives the digests that documents name: those stay. Raises OSError."""
        self._folder, self._named, self._bound_bytes = folder, named, bound_bytes
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def has(self, digest: str) -> bool:
        """Whether the blob is there, whole."""
        found = _DIGEST.fullmatch(digest)
        return found is not None and (self._folder / found[1]).is_file()

    def read(self, digest: str) -> bytes:
        """See agent.apply.part.Blobs; one that is damaged is deleted, to be sent again."""
        found = _DIGEST.fullmatch(digest)
        if found is None:
            raise ApplyError(f"{digest!r} names no blob")
        path = self._folder / found[1]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ApplyError(f"blob {digest} cannot be read: {error.strerror}") from None
        if sha256(data).hexdigest() != found[1]:
            path.unlink(missing_ok=True)
            raise ApplyError(f"blob {digest} was damaged on the disk; send it again")
        return data

    def put(self, digest: str, piece: Piece, data: bytes) -> PutBlob:
        """Take a piece; the answer says where to go on. A piece that came already changes nothing."""
        found = _DIGEST.fullmatch(digest)
        if found is None:
            return PutBlob(state="refused", size=0, detail="a blob is named by sha256: and 64 hex digits")
        if not 0 < piece.total <= MAX_BLOB_BYTES:
            return PutBlob(state="refused", size=0, detail=f"a blob has 1 to {MAX_BLOB_BYTES} bytes")
        if len(data) > MAX_PIECE_BYTES:
            return PutBlob(state="refused", size=0, detail=f"a piece has at most {MAX_PIECE_BYTES} bytes")
        with self._lock:
            try:
                return self._put(found[1], piece, data)
            except OSError as error:
                full = error.errno in {errno.ENOSPC, errno.EDQUOT}
                why = "there is no room on the disk" if full else f"it cannot be written: {error.strerror}"
                log.error("blob %s: %s", digest, why)
                return PutBlob(state="refused", size=0, detail=why)

    def _put(self, name: str, piece: Piece, data: bytes) -> PutBlob:
        """Raises OSError."""
        whole, partial = self._folder / name, self._folder / (name + _PARTIAL)
        if whole.is_file():
            return PutBlob(state="stored", size=whole.stat().st_size)
        size = partial.stat().st_size if partial.is_file() else 0
        if size > piece.total:  # announced with another size before
            partial.unlink()
            size = 0
        if piece.first != size or not data:
            return PutBlob(state="partial", size=size)
        if not self._make_room(len(data), keep=partial):
            return PutBlob(state="refused", size=size, detail="no room: documents name all blobs that are here")
        _append(partial, size, data)
        size += len(data)
        if size < piece.total:
            return PutBlob(state="partial", size=size)
        return self._finish(name, partial, whole)

    def _finish(self, name: str, partial: Path, whole: Path) -> PutBlob:
        """Check the hash, and give it its name. Raises OSError."""
        data = partial.read_bytes()
        if sha256(data).hexdigest() != name:
            partial.unlink()
            return PutBlob(state="refused", size=0, detail="its bytes are not those of the hash that names it")
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(whole)
        sync_folder(self._folder)
        return PutBlob(state="stored", size=len(data))

    def _make_room(self, size: int, *, keep: Path) -> bool:
        """Delete the oldest that no document names until so many bytes fit within the bound. Raises OSError."""
        found = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self._folder.iterdir())
        excess = sum(bytes_ for _, bytes_, _ in found) + size - self._bound_bytes
        if excess <= 0:
            return True
        named = self._named()
        for _, bytes_, path in found:
            if excess <= 0:
                break
            if path != keep and "sha256:" + path.name.removesuffix(_PARTIAL) not in named:
                path.unlink()
                excess -= bytes_
        return excess <= 0


def _append(path: Path, size: int, data: bytes) -> None:
    """Whole, or the file is as it was. Raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
    except OSError:
        os.ftruncate(handle, size)
        raise
    finally:
        os.close(handle)
