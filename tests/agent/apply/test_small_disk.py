"""A disk that is really full, at a site that takes a document: it says so, keeps what it has, and goes on."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.apply.blobs import Piece
from agent.apply.store import FileStore, StoreError
from agent.protocol.desired import digest
from tests.agent.apply.documents import Bench, sealed, workload
from tests.agent.factories import SITE

DISK_BYTES = 512 << 10
DATA = Random(5).randbytes(200_000)


class Disk:
    """A small one; `fill()` takes all the room that is left, `clear()` gives it back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path / "others-data"

    def fill(self) -> None:
        """As somebody else's data would: until the kernel refuses a single byte more."""
        with self._filling.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 10, 1):
                try:
                    while file.write(b"x" * size) == size:
                        pass
                except OSError:
                    continue

    def clear(self) -> None:
        self._filling.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_document_that_cannot_be_kept_is_refused_and_the_one_before_stays(disk: Disk, open_bench: Any) -> None:
    bench: Bench = open_bench(folder=disk.path)
    bench.apply(sealed(1, "a:1"))
    disk.fill()
    answer = bench.desk.put(SITE, sealed(2, "a:2"))
    assert (answer.state, answer.reason) == ("refused", "storage")
    assert "No space left on device" in answer.detail
    assert (bench.state, bench.part.world()) == ((1, "applied"), {"a": "1"})
    again: Bench = open_bench(folder=disk.path)  # after a restart on the full disk too; the applier waits for room
    with pytest.raises(StoreError, match="No space left on device"):
        again.run()
    assert (again.state, again.part.world()) == ((1, "applied"), {"a": "1"})
    disk.clear()
    again.run()
    again.apply(sealed(2, "a:2"))
    assert (again.state, again.part.world()) == ((2, "applied"), {"a": "2"})


def test_a_blob_that_has_no_room_is_refused_and_goes_on_where_it_was(disk: Disk, open_bench: Any) -> None:
    bench: Bench = open_bench(folder=disk.path)
    name = digest(DATA)
    first = bench.desk.put_blob(name, Piece(0, len(DATA)), DATA[:100_000])
    assert (first.state, first.size) == ("partial", 100_000)
    disk.fill()
    answer = bench.desk.put_blob(name, Piece(100_000, len(DATA)), DATA[100_000:])
    assert (answer.state, answer.detail) == ("refused", "there is no room on the disk")
    body = sealed(1, workloads=(workload("a", "1", config_sha256=name),))
    assert bench.desk.put(SITE, body).reason == "blobs_missing"
    disk.clear()
    size = bench.desk.put_blob(name, Piece(None, len(DATA)), b"").size
    assert size >= 100_000
    assert bench.desk.put_blob(name, Piece(size, len(DATA)), DATA[size:]).state == "stored"
    bench.apply(body)
    assert bench.state == (1, "applied")


def test_a_disk_that_fills_within_an_apply_holds_it_and_it_goes_on_after_a_kill(disk: Disk, open_bench: Any) -> None:
    bench: Bench = open_bench(folder=disk.path, store=FileStore(disk.path / "desired", SITE))
    bench.apply(sealed(1, "a:1"))
    bench.desk.put(SITE, sealed(2, "a:2"))
    while "switch a" not in bench.part.calls[-3:]:
        bench.step()
    disk.fill()
    for _ in range(3):
        with pytest.raises(StoreError, match="No space left on device"):
            bench.step()
    disk.clear()
    again: Bench = open_bench(folder=disk.path)
    again.run()
    assert (again.state, again.part.world(), again.part.leftovers()) == ((2, "applied"), {"a": "2"}, [])
