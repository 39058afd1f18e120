"""The way from one document to the next: what is done in which order, and what comes of it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.apply import steps
from agent.apply.blobs import Piece
from agent.protocol.desired import AgentRelease, OsState, digest, open_receipt
from agent.protocol.entries import Receipt
from tests.agent.apply.documents import BOOT, NEXT_BOOT, Bench, sealed
from tests.agent.factories import AT, SITE


def entry(version: int, state: str, detail: str = "") -> Receipt:
    return Receipt(1, version, state, detail)


class TestApplying:
    def test_all_is_staged_then_switched_and_checked_one_by_one_then_kept(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1", "b:1"))
        assert bench.part.world() == {"a": "1", "b": "1"}
        assert bench.part.leftovers() == []
        acts = [call for call in bench.part.calls if call.split()[0] in {"stage", "switch", "check", "keep"}]
        assert acts == [
            *("stage a", "stage b"),
            *("switch a", "check a", "switch b", "check b"),
            *("keep a", "keep b"),
        ]
        assert bench.state == (1, "applied")
        assert bench.noted.entries == [entry(1, "applied")]

    def test_what_is_not_named_goes_and_what_is_right_is_left_alone(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1", "b:1", "c:1"))
        bench.part.calls.clear()
        bench.apply(sealed(2, "a:2", "b:1"))
        assert bench.part.world() == {"a": "2", "b": "1"}
        assert not any(call.endswith(" b") for call in bench.part.calls)

    def test_a_document_that_holds_already_touches_nothing(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1"))
        bench.part.calls.clear()
        bench.apply(sealed(2, "a:1"))
        assert bench.part.calls == []
        assert bench.state == (2, "applied")

    def test_the_receipt_is_signed_and_says_what_was_touched(self, bench: Bench, identity: Any) -> None:
        body = sealed(1, "a:1", "b:1")
        bench.apply(body)
        envelope = bench.desk.status(SITE).receipt
        assert envelope is not None
        receipt = open_receipt(envelope, identity.keys.public()[1])
        assert (receipt.site, receipt.epoch, receipt.version) == (SITE, 1, 1)
        assert (receipt.sha256, receipt.state, receipt.detail) == (digest(body), "applied", "")
        assert (receipt.boot, receipt.at, receipt.changed) == (BOOT, bench.machine.at, ("a", "b"))

    def test_progress_and_reports_on_the_way(self, bench: Bench) -> None:
        bench.desk.put(SITE, sealed(1, "a:1", "b:1"))
        seen = []
        while bench.step().wait_s is not None:
            status = bench.desk.status(SITE)
            seen.append((status.state, status.done, status.total))
        assert seen[0] == ("accepted", 0, 0)
        assert list(dict.fromkeys(state for state, _, _ in seen)) == [
            *("accepted", "staging", "staged", "applying", "applied")
        ]
        assert seen[-1] == ("applied", 6, 6)
        assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
        assert bench.noted.desired[0].state == "none"
        assert bench.noted.desired[-1].version == 1

    def test_skipped_versions_are_said(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1"))
        assert bench.desk.put(SITE, sealed(5, "a:5", prev_sha256=digest(b"4"))).detail == "versions were skipped"
        bench.run()
        assert bench.noted.entries[-1] == entry(
            5, "applied", "it does not follow on what was held before: versions were skipped"
        )

    def test_what_nobody_here_can_change_is_not_said_to_be_applied(self, bench: Bench) -> None:
        bench.desk.put_blob(digest(b"wheel"), Piece(0, 5), b"wheel")
        bench.apply(sealed(1, agent=AgentRelease("1.2.3", digest(b"wheel")), os=OsState()))
        assert bench.noted.entries == [entry(1, "failed", "this agent is not set up to change: os, agent")]

    def test_a_document_that_expires_does_not_end_what_runs_and_is_not_begun(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1"))
        bench.apply(sealed(2, "a:2", hold=True))
        bench.machine.at = AT + timedelta(days=30)
        assert bench.desk.put(SITE, sealed(3, "a:2")).reason == "expired"
        bench.run()
        assert bench.part.world() == {"a": "1"}
        assert bench.state == (2, "held")

    def test_one_that_expired_while_it_was_staged_is_not_applied(self, bench: Bench) -> None:
        bench.desk.put(SITE, sealed(1, "a:1"))
        while bench.desk.status(SITE).state != "staged":
            bench.step()
        bench.machine.at = AT + timedelta(days=30)
        bench.run()
        assert bench.part.world() == {}
        assert bench.part.leftovers() == []
        assert bench.state == (1, "failed")
        assert bench.desk.status(SITE).detail == "it expired at 2026-11-30T21:00:00.000Z, before it could be applied"


class TestFailing:
    def test_what_cannot_be_staged_touches_nothing(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1", "b:1"))
        bench.apply(sealed(2, "a:2", "b:absent"))
        assert bench.part.world() == {"a": "1", "b": "1"}
        assert bench.part.leftovers() == []
        assert "switch a" not in bench.part.calls[bench.part.calls.index("keep b") :]
        assert bench.noted.entries[-1] == entry(2, "failed", "b at absent is nowhere")

    def test_one_broken_thing_takes_all_back_the_last_first(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1", "b:1", "gone:1"))
        bench.part.calls.clear()
        bench.apply(sealed(2, "a:2", "new:1", "b:bad"))
        assert bench.part.world() == {"a": "1", "b": "1", "gone": "1"}
        assert bench.part.leftovers() == []
        restored = [call for call in bench.part.calls if call.startswith("restore")]
        assert restored == ["restore gone", "restore b", "restore new", "restore a"]
        assert bench.noted.entries[-1] == entry(2, "rolled_back", "b: it never got well")

    def test_after_a_failure_the_next_version_is_tried_and_the_same_is_not(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1"))
        bad = sealed(2, "a:bad")
        bench.apply(bad)
        assert bench.desk.put(SITE, bad).state == "unchanged"
        assert bench.step().wait_s is None
        bench.apply(sealed(3, "a:3"))
        assert bench.part.world() == {"a": "3"}

    def test_what_may_pass_is_tried_again_with_growing_pauses(self, bench: Bench) -> None:
        bench.part.away = 4
        bench.desk.put(SITE, sealed(1, "a:1"))
        waits = []
        while (wait_s := bench.step().wait_s) is not None:
            waits += [wait_s] if wait_s else []
            if len(waits) == 3:
                assert bench.desk.status(SITE).detail == "the registry is away (tried 3 times)"
        assert waits == [1.0, 2.0, 4.0, 8.0]
        assert bench.state == (1, "applied")

    def test_what_does_not_pass_fails_in_the_end(self, bench: Bench) -> None:
        bench.part.away = 1_000
        bench.apply(sealed(1, "a:1"))
        assert bench.part.calls.count("stage a") == steps.TRIES
        assert bench.noted.entries[-1] == entry(1, "failed", "the registry is away")

    def test_a_part_that_breaks_is_a_failure_not_the_end_of_the_applier(self, bench: Bench, open_bench: Any) -> None:
        def called(what: str) -> None:
            if what == "check a":
                raise ZeroDivisionError("a slip")

        bench = open_bench(called=called)
        bench.apply(sealed(1, "a:1"))
        assert bench.part.world() == {}
        assert bench.noted.entries == [entry(1, "rolled_back", "ZeroDivisionError: a slip")]

    def test_what_cannot_be_taken_back_is_said(self, open_bench: Any) -> None:
        def called(what: str) -> None:
            if what == "restore a":
                raise OSError("the disk is gone")

        bench = open_bench(called=called)
        bench.apply(sealed(1, "a:1", "b:bad"))
        assert bench.noted.entries == [
            entry(1, "failed", "b: it never got well; a could not be brought back: OSError: the disk is gone")
        ]

    def test_words_of_others_fit_into_a_receipt(self, open_bench: Any) -> None:
        def called(what: str) -> None:
            if what == "stage a":
                raise OSError("\x00\n\ud800" + "x" * 5_000)

        bench = open_bench(called=called)
        bench.apply(sealed(1, "a:1"))
        detail = bench.noted.entries[0].detail
        assert detail.startswith("OSError: ???xxx")
        assert len(detail) == 512


class TestSafePoints:
    def test_a_frozen_document_is_staged_and_no_more(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1"))
        bench.apply(sealed(2, "a:2", hold=True))
        assert bench.part.world() == {"a": "1"}
        assert "stage a" in bench.part.calls
        assert bench.noted.entries[-1] == entry(2, "held", "this site is frozen")
        assert bench.desk.status(SITE).hold

    def test_thaw_goes_on_where_it_was(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1", hold=True))
        bench.part.calls.clear()
        bench.apply(sealed(2, "a:1"))
        assert bench.part.world() == {"a": "1"}
        assert "stage a" not in bench.part.calls
        assert bench.noted.entries == [entry(1, "held", "this site is frozen"), entry(2, "applied")]

    def test_freeze_between_two_workloads(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1", "b:1"))
        bench.desk.put(SITE, sealed(2, "a:2", "b:2"))
        while "check a" not in bench.part.calls[bench.part.calls.index("keep b") :]:
            bench.step()
        bench.apply(sealed(3, "a:2", "b:2", hold=True))
        assert bench.part.world() == {"a": "2", "b": "1"}
        assert bench.state == (3, "held")
        bench.apply(sealed(4, "a:2", "b:2"))
        assert bench.part.world() == {"a": "2", "b": "2"}
        assert bench.part.leftovers() == []
        assert bench.noted.entries[1:] == [entry(3, "held", "this site is frozen"), entry(4, "applied")]

    def test_a_freeze_with_other_content_stops_and_touches_nothing(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1", "b:1"))
        bench.desk.put(SITE, sealed(2, "a:2", "b:2"))
        while "check a" not in bench.part.calls[bench.part.calls.index("keep b") :]:
            bench.step()
        bench.apply(sealed(3, "a:1", "b:1", hold=True))
        assert bench.part.world() == {"a": "2", "b": "1"}
        assert bench.state == (3, "held")
        assert bench.noted.entries[-1] == entry(3, "held", "version 3 has frozen this site")
        bench.apply(sealed(4, "a:1", "b:1"))
        assert bench.part.world() == {"a": "1", "b": "1"}
        assert bench.state == (4, "applied")

    def test_a_newer_document_takes_the_place_of_one_under_way(self, bench: Bench) -> None:
        bench.apply(sealed(1, "a:1", "b:1"))
        bench.desk.put(SITE, sealed(2, "a:2", "b:2"))
        while "check a" not in bench.part.calls[bench.part.calls.index("keep b") :]:
            bench.step()
        bench.apply(sealed(3, "a:3", "b:3"))
        assert bench.part.world() == {"a": "3", "b": "3"}
        assert bench.noted.entries[1:] == [
            entry(2, "superseded", "version 3 has taken its place"),
            entry(3, "applied", "it does not follow on what was held before: versions were skipped"),
        ]
        assert bench.state == (3, "applied")

    def test_a_document_that_waits_is_said_to(self, bench: Bench) -> None:
        bench.desk.put(SITE, sealed(1, "a:1"))
        bench.step()
        bench.desk.put(SITE, sealed(2, "a:2"))
        status = bench.desk.status(SITE)
        assert (status.version, status.state, status.detail) == (2, "accepted", "version 1 comes first")


class TestReboot:
    def os(self, reboot: str) -> OsState:
        return OsState(reboot=reboot)  # type: ignore[arg-type]

    def run_to_reboot(self, bench: Bench, reboot: str) -> None:
        bench.part.name = "workload"
        bench.desk.put(SITE, sealed(1, "a:boot", os=self.os(reboot)))
        for _ in range(20):
            bench.step()

    @pytest.fixture
    def bench(self, tmp_path: Path, open_bench: Any) -> Bench:
        class Os:
            name = "os"

            def changes(self, *_: object) -> list[Any]:
                return []

        bench: Bench = open_bench()
        bench.desk.part_sites()[SITE].parts = [bench.part, Os()]  # type: ignore[list-item]
        return bench

    def test_the_machine_boots_anew_and_then_it_is_proven(self, bench: Bench) -> None:
        self.run_to_reboot(bench, "if_required")
        assert bench.machine.reboots == 1
        assert bench.state == (1, "applying")
        assert bench.desk.status(SITE).detail == "the machine boots anew"
        bench.machine.boot = NEXT_BOOT
        bench.run()
        assert bench.state == (1, "applied")

    def test_it_waits_for_the_window_of_the_site(self, bench: Bench) -> None:
        bench.machine.closed = "the window opens on Sunday at 02:00"
        self.run_to_reboot(bench, "window")
        assert (bench.machine.reboots, bench.state) == (0, (1, "held"))
        assert bench.desk.status(SITE).detail == "the window opens on Sunday at 02:00"
        bench.machine.closed = ""
        for _ in range(3):
            bench.step()
        assert (bench.machine.reboots, bench.state) == (1, (1, "applying"))
        bench.machine.boot = NEXT_BOOT
        bench.run()
        assert bench.state == (1, "applied")

    def test_without_leave_to_reboot_it_waits_for_one(self, bench: Bench) -> None:
        self.run_to_reboot(bench, "never")
        assert bench.machine.reboots == 0
        assert bench.noted.entries == [entry(1, "held", "it holds after a reboot, which it does not ask for now")]
        bench.machine.boot = NEXT_BOOT
        bench.run()
        assert bench.state == (1, "applied")

    def test_freeze_before_the_reboot(self, bench: Bench) -> None:
        bench.desk.put(SITE, sealed(1, "a:boot", os=self.os("if_required")))
        while "check a" not in bench.part.calls:
            bench.step()
        bench.desk.put(SITE, sealed(2, "a:boot", os=self.os("if_required"), hold=True))
        bench.run()
        assert (bench.machine.reboots, bench.state) == (0, (2, "held"))
        bench.desk.put(SITE, sealed(3, "a:boot", os=self.os("if_required")))
        for _ in range(5):
            bench.step()
        assert bench.machine.reboots == 1

    def test_a_machine_that_does_not_come_to_boot_goes_back(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steps, "REBOOT_S", -1.0)
        self.run_to_reboot(bench, "if_required")
        assert bench.state == (1, "rolled_back")
        assert bench.part.world() == {}


class TestRepair:
    def test_after_a_restart_the_last_good_state_is_brought_back(self, bench: Bench, open_bench: Any) -> None:
        bench.apply(sealed(1, "a:1", "b:1"))
        bench.apply(sealed(2, "a:2", "b:bad"))
        (bench.part.folder / "a").unlink()
        again = open_bench()
        again.run()
        assert again.part.world() == {"a": "1", "b": "1"}
        assert again.part.leftovers() == []
        assert again.state == (2, "rolled_back")
        assert again.desk.status(SITE).detail == "b: it never got well | brought back after a restart: a"

    def test_while_it_is_brought_back_the_site_goes_on_to_say_what_became_of_the_newest(
        self, bench: Bench, open_bench: Any
    ) -> None:
        bench.apply(sealed(1, "a:1", "b:1"))
        bench.apply(sealed(2, "a:2", "b:bad"))
        (bench.part.folder / "a").unlink()
        again = open_bench()
        states = [again.state]
        while again.step().wait_s is not None:
            states.append(again.state)
        assert len(states) > 3
        assert set(states) == {(2, "rolled_back")}
        assert {(said.version, said.state) for said in again.noted.desired} == {(2, "rolled_back")}

    def test_a_frozen_site_is_left_as_it_is(self, bench: Bench, open_bench: Any) -> None:
        bench.apply(sealed(1, "a:1"))
        bench.apply(sealed(2, "a:1", hold=True))
        (bench.part.folder / "a").unlink()
        again = open_bench()
        again.run()
        assert again.part.world() == {}

    def test_where_all_holds_nothing_is_touched_nor_said(self, bench: Bench, open_bench: Any) -> None:
        bench.apply(sealed(1, "a:1"))
        bench.desk.told(SITE)
        bench.run()
        again = open_bench()
        again.run()
        assert again.part.calls == []
        assert again.noted.entries == []
        assert again.desk.status(SITE) == bench.desk.status(SITE)
