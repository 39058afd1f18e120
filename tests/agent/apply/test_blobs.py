import os
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from agent.apply.blobs import BlobFolder, Piece, read_range
from agent.apply.part import ApplyError
from agent.protocol.desired import MAX_BLOB_BYTES, MAX_PIECE_BYTES, PutBlob, digest

DATA = Random(5).randbytes(700_000)
NAME = digest(DATA)
NOBODY: frozenset[str] = frozenset()


def folder_at(path: Path, named: frozenset[str] = NOBODY, bound_bytes: int = 1 << 20) -> BlobFolder:
    return BlobFolder(path / "blobs", lambda: named, bound_bytes=bound_bytes)


def send(folder: BlobFolder, data: bytes, size: int = MAX_PIECE_BYTES) -> PutBlob:
    answer = PutBlob(state="partial", size=0)
    while answer.state == "partial":
        first = answer.size
        answer = folder.put(digest(data), Piece(first, len(data)), data[first : first + size])
    return answer


class TestSending:
    def test_in_pieces(self, tmp_path: Path) -> None:
        folder = folder_at(tmp_path)
        assert not folder.has(NAME)
        assert send(folder, DATA) == PutBlob(state="stored", size=700_000)
        assert folder.has(NAME)
        assert folder.read(NAME) == DATA

    def test_it_goes_on_where_it_was_after_a_restart(self, tmp_path: Path) -> None:
        folder_at(tmp_path).put(NAME, Piece(0, len(DATA)), DATA[:256_000])
        again = folder_at(tmp_path)
        assert again.put(NAME, Piece(None, len(DATA)), b"") == PutBlob(state="partial", size=256_000)
        assert again.put(NAME, Piece(0, len(DATA)), DATA[:256_000]) == PutBlob(state="partial", size=256_000)
        assert again.put(NAME, Piece(512_000, len(DATA)), DATA[512_000:]) == PutBlob(state="partial", size=256_000)
        assert send(again, DATA) == PutBlob(state="stored", size=700_000)
        assert again.put(NAME, Piece(0, len(DATA)), DATA[:1]) == PutBlob(state="stored", size=700_000)

    def test_other_bytes_than_the_hash_names_are_refused_and_forgotten(self, tmp_path: Path) -> None:
        folder = folder_at(tmp_path)
        answer = folder.put(NAME, Piece(0, 5), b"wrong")
        assert answer == PutBlob(state="refused", size=0, detail="its bytes are not those of the hash that names it")
        assert not folder.has(NAME)
        assert send(folder, DATA).state == "stored"

    def test_bounds(self, tmp_path: Path) -> None:
        folder = folder_at(tmp_path)
        assert folder.put(NAME, Piece(0, MAX_BLOB_BYTES + 1), b"x").state == "refused"
        assert folder.put(NAME, Piece(0, len(DATA)), DATA[: MAX_PIECE_BYTES + 1]).state == "refused"
        for name in ("sha256:../../etc/passwd", "sha256:" + "A" * 64, "sha256:" + "a" * 63, ""):
            assert folder.put(name, Piece(0, 1), b"x").state == "refused"
            assert not folder.has(name)
        assert list((tmp_path / "blobs").iterdir()) == []

    def test_one_that_was_damaged_on_the_disk_is_to_be_sent_again(self, tmp_path: Path) -> None:
        folder = folder_at(tmp_path)
        send(folder, DATA)
        (tmp_path / "blobs" / NAME[7:]).write_bytes(b"damaged")
        with pytest.raises(ApplyError, match="was damaged on the disk"):
            folder.read(NAME)
        assert not folder.has(NAME)


class TestRoom:
    def test_the_oldest_that_no_document_names_go_first(self, tmp_path: Path) -> None:
        blobs = [bytes([n]) * 300_000 for n in range(5)]
        folder = folder_at(tmp_path, frozenset({digest(blobs[0])}))
        for n, blob in enumerate(blobs):
            send(folder, blob)
            os.utime(tmp_path / "blobs" / sha256(blob).hexdigest(), (n, n))
        assert [folder.has(digest(blob)) for blob in blobs] == [True, False, False, True, True]

    def test_where_all_are_named_it_is_refused(self, tmp_path: Path) -> None:
        blobs = [bytes([n]) * 300_000 for n in range(4)]
        folder = folder_at(tmp_path, frozenset(map(digest, blobs)))
        states = [send(folder, blob).state for blob in blobs]
        assert states == ["stored", "stored", "stored", "refused"]

    def test_a_full_disk_is_said_and_what_is_there_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = folder_at(tmp_path)
        folder.put(NAME, Piece(0, len(DATA)), DATA[:256_000])
        real = os.write

        def short(handle: int, data: bytes) -> int:
            if len(data) > 1_000:
                return real(handle, data[:1_000])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", short)
        answer = folder.put(NAME, Piece(256_000, len(DATA)), DATA[256_000:258_000])
        assert answer == PutBlob(state="refused", size=0, detail="there is no room on the disk")
        monkeypatch.undo()
        assert folder.put(NAME, Piece(None, len(DATA)), b"").size == 256_000
        assert send(folder, DATA).state == "stored"


def test_content_ranges() -> None:
    assert read_range(None, 5) == Piece(0, 5)
    assert read_range("bytes 0-4/5", 5) == Piece(0, 5)
    assert read_range("bytes 5-9/20", 5) == Piece(5, 20)
    assert read_range("bytes */20", 0) == Piece(None, 20)
    for header in (
        "bytes 0-4/4",
        "bytes 0-5/9",
        "bytes 4-0/9",
        "bytes=0-4/5",
        "bytes 0-4/*",
        "bytes -1-3/5",
        "x" * 500,
    ):
        with pytest.raises(ValueError, match="Content-Range"):
            read_range(header, 5)
    with pytest.raises(ValueError, match="no body"):
        read_range("bytes */20", 5)
