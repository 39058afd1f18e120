"""What is kept: whole or absent, whatever happens to the power, the disk and the files."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from agent.apply import store as store_module
from agent.apply.record import SLOTS, Newest, RecordError, Work, pack, unpack
from agent.apply.store import FileStore, SharedStore, Store, StoreError, Write
from agent.protocol.desired import digest
from tests.agent.apply.documents import FullStore, sealed
from tests.agent.factories import AT, SITE
from tests.agent.wire import NAMESPACE

OTHER = uuid5(NAMESPACE, "other")


def file_store(folder: Path) -> Store:
    return FileStore(folder / "desired", SITE)


def shared_store(folder: Path) -> Store:
    return SharedStore(folder / "desired.sqlite")


@pytest.fixture(params=[file_store, shared_store])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    return lambda: request.param(tmp_path)


class TestStores:
    def test_what_was_put_is_there_after_a_restart(self, opened: Callable[[], Store]) -> None:
        opened().put([Write(SITE, slot, slot.encode()) for slot in SLOTS])
        opened().put([Write(SITE, "work", b"again"), Write(SITE, "work", b"and again")])
        kept = opened().load([SITE])
        assert kept == {(SITE, "newest"): b"newest", (SITE, "work"): b"and again", (SITE, "applied"): b"applied"}
        assert opened().load([OTHER]) == {}

    def test_what_is_set_aside_is_not_found_again(self, opened: Callable[[], Store]) -> None:
        opened().put([Write(SITE, "work", b"x"), Write(SITE, "newest", b"y")])
        opened().set_aside(SITE, "work")
        assert opened().load([SITE]) == {(SITE, "newest"): b"y"}

    def test_nobody_else_may_read_it(self, opened: Callable[[], Store], tmp_path: Path) -> None:
        opened().put([Write(SITE, "work", b"x")])
        for path in tmp_path.rglob("*"):
            assert path.stat().st_mode & 0o077 == 0 or path.suffix in {".sqlite-wal", ".sqlite-shm"}


class TestFiles:
    def test_the_old_file_stays_until_the_new_one_is_on_the_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each call that reaches the disk is the last, in turn; what is found afterwards is the old or the new."""
        done: list[str] = []

        def cut_at(number: int) -> None:
            count = 0
            for name, real in (("fsync", os.fsync), ("replace", Path.replace)):

                def cut(*arguments: Any, name: str = name, real: Any = real) -> Any:
                    nonlocal count
                    count += 1
                    if count == number:
                        raise OSError(5, "power loss")
                    done.append(name)
                    return real(*arguments)

                monkeypatch.setattr(os if name == "fsync" else Path, name, cut)

        store = file_store(tmp_path)
        store.put([Write(SITE, "work", b"old")])
        found = []
        for number in (1, 2, 3, 4):
            done.clear()
            cut_at(number)
            with contextlib.suppress(StoreError):
                store.put([Write(SITE, "work", b"new")])
            monkeypatch.undo()
            found.append(file_store(tmp_path).load([SITE])[SITE, "work"])
        assert found == [b"old", b"old", b"new", b"new"]
        assert done == ["fsync", "replace", "fsync"]  # the file, its name, the folder

    def test_a_full_disk_is_said_and_nothing_is_lost(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = file_store(tmp_path)
        store.put([Write(SITE, "work", b"old")])

        def full(path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(store_module, "replace_file", full)
        with pytest.raises(StoreError, match="cannot be written: No space left on device"):
            store.put([Write(SITE, "work", b"new")])
        assert store.load([SITE])[SITE, "work"] == b"old"

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "desired").touch()
        with pytest.raises(StoreError, match="cannot be used: File exists"):
            file_store(tmp_path)


class TestShared:
    def test_many_that_wait_share_a_commit(self, tmp_path: Path) -> None:
        store = SharedStore(tmp_path / "desired.sqlite")
        commits: list[int] = []
        write = store._write

        def counted(batch: Any) -> None:
            commits.append(len(batch))
            write(batch)

        store._write = counted  # type: ignore[method-assign]
        sites = [uuid5(NAMESPACE, str(n)) for n in range(400)]
        gate = threading.Barrier(20)

        def put(part: list[UUID]) -> None:
            gate.wait()
            for site in part:
                store.put([Write(site, "work", site.bytes)])

        threads = [threading.Thread(target=put, args=(sites[n::20],)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(commits) == 400
        assert len(commits) < 400
        store.close()
        assert SharedStore(tmp_path / "desired.sqlite").load(sites) == {(site, "work"): site.bytes for site in sites}

    def test_a_damaged_file_is_set_aside(self, tmp_path: Path) -> None:
        path = tmp_path / "desired.sqlite"
        path.write_bytes(b"rubbish" * 1_000)
        assert SharedStore(path).load([SITE]) == {}
        (aside,) = tmp_path.glob("*.aside-*")
        assert aside.read_bytes() == b"rubbish" * 1_000


class TestRecords:
    def test_there_and_back(self) -> None:
        body = sealed(1)
        newest = Newest(envelope=body, sha256=digest(body), epoch=1, version=1, seen_at=AT)
        assert unpack(pack(newest), Newest) == newest
        work = Work(envelope=body, sha256=digest(body), epoch=1, version=1, state="applied", phase="ended")
        repair = Work(**{**{f: getattr(work, f) for f in work.__struct_fields__}, "prior": work, "phase": "planning"})
        assert unpack(pack(repair), Work) == repair

    def test_each_changed_byte_is_noticed(self) -> None:
        packed = pack(Newest(envelope=b"e", sha256="s", epoch=1, version=1, seen_at=AT))
        for index in range(len(packed)):
            changed = bytearray(packed)
            changed[index] ^= 4
            with pytest.raises(RecordError):
                unpack(bytes(changed), Newest)
            with pytest.raises(RecordError):
                unpack(packed[:index], Newest)


class TestDamage:
    """A file that is damaged is never half believed."""

    def test_all_damaged_means_ask_the_centre_again(self, bench: Any, open_bench: Any, tmp_path: Path) -> None:
        bench.apply(sealed(1, "a:1"))
        for slot in SLOTS:
            path = tmp_path / "desired" / f"{slot}.json"
            path.write_bytes(path.read_bytes()[:-1])
        again = open_bench()
        again.run()
        assert again.state == (0, "none")
        assert again.part.world() == {"a": "1"}
        assert sorted(p.name for p in (tmp_path / "desired").iterdir()) == sorted(f"{s}.json.aside" for s in SLOTS)
        again.apply(sealed(1, "a:1"))
        assert again.state == (1, "applied")

    @pytest.mark.parametrize("slot", SLOTS)
    def test_one_damaged_does_not_let_an_older_document_in(
        self, slot: str, bench: Any, open_bench: Any, tmp_path: Path
    ) -> None:
        bench.apply(sealed(1, "a:1"))
        second = sealed(2, "a:2")
        bench.apply(second)
        (tmp_path / "desired" / f"{slot}.json").write_bytes(b"0" * 200)
        again = open_bench()
        again.run()
        assert again.desk.put(SITE, sealed(1, "a:1")).reason == "older"
        assert again.desk.put(SITE, sealed(2, "a:other")).reason == "equivocation"
        assert again.desk.put(SITE, second).state == ("accepted" if slot == "newest" else "unchanged")
        again.run()
        assert again.part.world() == {"a": "2"}
        assert again.state == (2, "applied")


class TestFullDisk:
    def test_what_cannot_be_kept_is_refused(self, open_bench: Any, tmp_path: Path) -> None:
        store = FullStore(FileStore(tmp_path / "desired", SITE))
        bench = open_bench(store=store)
        answer = bench.desk.put(SITE, sealed(1, "a:1"))
        assert (answer.state, answer.reason) == ("refused", "storage")
        assert bench.state == (0, "none")
        store.is_full = False
        bench.apply(sealed(1, "a:1"))
        assert bench.state == (1, "applied")

    def test_a_disk_that_fills_in_mid_apply_stops_it_and_it_goes_on(self, open_bench: Any, tmp_path: Path) -> None:
        store = FullStore(FileStore(tmp_path / "desired", SITE))
        store.is_full = False
        bench = open_bench(store=store)
        bench.desk.put(SITE, sealed(1, "a:1"))
        while "switch a" not in bench.part.calls:
            bench.step()
        store.is_full = True
        for _ in range(3):  # the same step, as often as it takes
            with pytest.raises(StoreError):
                bench.step()
        store.is_full = False
        bench.run()
        assert (bench.state, bench.part.world()) == ((1, "applied"), {"a": "1"})
