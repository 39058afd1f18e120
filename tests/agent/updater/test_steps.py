"""Real apt and dpkg on a folder: up, back, and what is refused."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from agent.config import OsConfig
from agent.updater import tools
from tests.agent.updater.conftest import NEW, OLD, two_packages
from tests.agent.updater.machine import Box


def test_two_packages_become_new_and_stay(box: Box) -> None:
    document = box.document(NEW)
    answer = box.do("changes", document)
    assert (answer.before, answer.after) == ("alpha 1.0, beta 1.0", "alpha 1.1, beta 1.1")
    box.do("stage", document)
    assert box.versions() == OLD
    assert sorted(path.name for path in box.folder.packages.iterdir()) == [
        "alpha_1.0_all.deb",
        "alpha_1.1_all.deb",
        "beta_1.0_all.deb",
        "beta_1.1_all.deb",
    ]
    box.lose_repository()
    for _ in range(2):
        box.do("switch", document)
        assert box.versions() == NEW
        answer = box.do("check", document)
        assert (answer.state, answer.detail) == ("well", "")
    for _ in range(2):
        box.do("keep", document)
        assert sorted(path.name for path in box.folder.packages.iterdir()) == ["alpha_1.1_all.deb", "beta_1.1_all.deb"]
    assert box.do("changes", document).after == ""


def test_it_goes_back_to_kept_packages_when_the_repository_is_gone(box: Box) -> None:
    document = box.document(NEW)
    box.do("stage", document)
    box.do("switch", document)
    assert box.versions() == NEW
    box.lose_repository()
    for _ in range(2):
        box.do("restore", document)
        assert box.versions() == OLD
        assert box.tools.audit() == ""
    assert sorted(path.name for path in box.folder.packages.iterdir()) == ["alpha_1.0_all.deb", "beta_1.0_all.deb"]


def test_the_next_change_needs_no_mirror_to_go_back(box: Box) -> None:
    first = box.document(NEW)
    box.all(first, "stage", "switch", "keep")
    box.publish("alpha", "1.2")
    (box.repository / "alpha_1.1_all.deb").unlink()
    box.index()
    second = box.document({"alpha": "1.2"})
    box.all(second, "stage", "switch", "restore")
    assert box.versions() == NEW


def test_restoring_what_was_staged_lets_it_go(box: Box) -> None:
    document = box.document(NEW)
    box.do("restore", document)
    box.do("stage", document)
    box.do("restore", document)
    assert box.versions() == OLD
    assert box.folder.work() is None
    assert box.ask("switch", document).error == "these packages were not staged"
    assert box.versions() == OLD


def test_a_new_package_is_installed_and_purged_again(box: Box) -> None:
    box.publish("gamma", "3", scripts={"postinst": 'echo made >"$DPKG_ROOT/run/gamma"'})
    document = box.document({"alpha": "1.1", "gamma": "3"})
    box.all(document, "stage", "switch")
    assert box.versions() == OLD | {"alpha": "1.1", "gamma": "3"}
    assert (box.root / "run/gamma").read_text() == "made\n"
    box.do("restore", document)
    assert box.versions() == OLD


def test_a_package_that_is_gone_from_the_mirror(box: Box) -> None:
    document = box.document({"alpha": "1.7"})
    answer = box.ask("stage", document)
    assert answer.error == "apt-get refuses: E: Version '1.7' for 'alpha' was not found"
    (box.repository / "beta_1.1_all.deb").unlink()  # the list still names it
    answer = box.ask("stage", box.document({"beta": "1.1"}))
    assert answer.error.startswith("beta 1.1 cannot be fetched: ")
    box.lose_repository()
    answer = box.ask("stage", box.document(NEW))
    assert answer.error.startswith("the lists of packages cannot be read: ")
    assert answer.transient
    assert box.versions() == OLD


def test_a_mirror_that_serves_other_bytes_is_not_believed(box: Box) -> None:
    path = box.repository / "alpha_1.1_all.deb"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    assert box.ask("stage", box.document(NEW)).error.startswith("alpha 1.1 cannot be fetched: ")
    assert box.versions() == OLD


def test_what_nobody_named_is_not_touched(box: Box) -> None:
    box.publish("delta", "2", fields="Conflicts: beta\n")
    answer = box.ask("stage", box.document({"delta": "2"}))
    assert "beta" in answer.error
    assert answer.error.startswith(("apt's plan is refused: ", "apt-get refuses: "))
    box.publish("epsilon", "2", fields="Depends: libzeta\n")
    box.publish("libzeta", "1")
    document = box.document({"epsilon": "2"})
    assert box.ask("stage", document).error == "apt's plan is refused: libzeta would be new, which nobody has named"
    box.publish("eta", "2", fields="Depends: beta (>= 1.1)\n")
    answer = box.ask("stage", box.document({"eta": "2"}))
    assert answer.error == "apt's plan is refused: beta would change, which nobody has named"
    assert box.versions() == OLD
    assert box.folder.work() is None


def test_the_site_may_allow_dependencies(tmp_path: Path) -> None:
    box = two_packages(tmp_path, OsConfig(also=("libz*",)))
    box.publish("epsilon", "2", fields="Depends: libzeta\n")
    box.publish("libzeta", "1")
    document = box.document({"epsilon": "2"})
    box.all(document, "stage", "switch")
    assert box.versions() == OLD | {"epsilon": "2", "libzeta": "1"}
    box.do("restore", document)
    assert box.versions() == OLD


def test_back_to_an_older_version_only_as_the_document_pins_it(tmp_path: Path) -> None:
    box = two_packages(tmp_path, OsConfig(also=("beta",)))
    box.publish("beta", "0.9")
    box.publish("theta", "1", fields="Depends: beta (<< 1.0)\n")
    error = box.ask("stage", box.document({"theta": "1"})).error
    assert error.startswith(("apt-get refuses: ", "apt's plan is refused: beta would go back to 0.9"))
    document = box.document({"beta": "0.9"})
    box.all(document, "stage", "switch", "keep")
    assert box.versions() == OLD | {"beta": "0.9"}


@pytest.mark.parametrize("script", ["preinst", "postinst"])
def test_a_script_that_fails_in_the_middle(script: str, box: Box) -> None:
    box.publish("beta", "1.2", scripts={script: "echo no room in the inn; exit 7"})
    document = box.document({"alpha": "1.1", "beta": "1.2"})
    box.do("stage", document)
    answer = box.ask("switch", document)
    assert answer.error.startswith("the packages cannot be installed: ")
    assert "exit status 7" in answer.error
    assert box.do("check", document).state == "broken"
    box.do("restore", document)
    assert box.versions() == OLD
    assert box.tools.audit() == ""


def test_a_package_that_cannot_be_kept_is_said_before_anything_is_done(tmp_path: Path) -> None:
    box = two_packages(tmp_path)
    (box.repository / "alpha_1.0_all.deb").unlink()
    box.index()
    document = box.document(NEW)
    assert box.ask("stage", document).error == (
        "alpha 1.0 cannot be kept to go back to: neither a mirror nor a cache has it, and dpkg-repack could not make it"
    )
    box.config = OsConfig(without_rollback=True)
    box.all(document, "stage", "switch")
    assert box.do("check", document).detail == "there is no way back for alpha"
    assert box.ask("restore", document).error == ("the packages before cannot be put back: alpha could not be kept")


def test_apts_own_cache_is_a_place_to_find_what_was(box: Box) -> None:
    (box.repository / "alpha_1.0_all.deb").rename(box.root / "var/cache/apt/archives/alpha_1.0_all.deb")
    box.index()
    document = box.document(NEW)
    box.all(document, "stage", "switch", "restore")
    assert box.versions() == OLD


def test_dpkg_that_is_not_well_is_left_to_people(box: Box) -> None:
    box.tools.run([*box.tools._dpkg(), "--unpack", str(box.repository / "alpha_1.1_all.deb")], 60)
    error = box.ask("stage", box.document({"beta": "1.1"})).error
    assert error.startswith("dpkg is not well, so nothing is begun: ")


def test_another_package_manager_is_waited_for(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "LOCK_S", 0.3)
    document = box.document(NEW)
    box.do("stage", document)
    hold = f"import fcntl;f=open({str(box.root / 'var/lib/dpkg/lock-frontend')!r},'w');fcntl.lockf(f,fcntl.LOCK_EX)"
    other = subprocess.Popen([sys.executable, "-c", f"{hold};print(1,flush=True);input()"], stdin=-1, stdout=-1)
    assert other.stdout is not None
    other.stdout.readline()
    answer = box.ask("switch", document)
    assert (answer.error, answer.transient) == ("another package manager is at work on this machine", True)
    other.communicate(b"\n")
    box.do("switch", document)


def test_what_was_begun_and_forgotten_is_undone_before_another_begins(box: Box) -> None:
    first = box.document(NEW)
    box.do("stage", first)
    box.do("switch", first)
    second = box.document({"alpha": "1.1"})
    box.do("stage", second)
    assert box.versions() == OLD
    box.do("switch", second)
    assert box.versions() == OLD | {"alpha": "1.1"}


# Kernels and reboots --------------------------------------------------------------------------------------------
def test_never_is_well_and_says_that_a_reboot_is_required(box: Box) -> None:
    document = box.document(NEW)
    box.do("stage", document)
    box.do("switch", document)
    (box.root / "run/reboot-required").touch()
    answer = box.do("check", document)
    assert (answer.state, answer.detail) == ("well", "a reboot is required: packages ask for it")
    assert box.ask("reboot").error == "the document does not allow a reboot"
    assert box.rebooted == 0


def test_a_kernel_is_proven_by_a_newer_boot_alone(tmp_path: Path) -> None:
    box = two_packages(tmp_path, OsConfig(reboot=True))
    document = box.document(NEW, kernel="6.1.0-21", reboot="if_required")
    assert box.do("changes", document).after == "alpha 1.1, beta 1.1, kernel 6.1.0-21"
    box.do("stage", document)
    assert box.ask("reboot").error == "there is nothing that a reboot would bring about"
    box.do("switch", document)
    answer = box.do("check", document)
    assert (answer.state, answer.detail) == ("broken", "kernel 6.1.0-21 is not installed")
    (box.root / "boot/vmlinuz-6.1.0-21").touch()
    answer = box.do("check", document)
    assert answer.state == "reboot"
    assert answer.detail == "a reboot is required: kernel 6.1.0-20 runs, 6.1.0-21 is to"
    box.do("reboot")
    assert box.rebooted == 1
    box.boot = "boot-2"
    answer = box.do("check", document)
    assert (answer.state, answer.detail) == (
        "broken",
        "after a reboot still kernel 6.1.0-20 runs, 6.1.0-21 is to",
    )
    assert box.ask("reboot").error == "the machine was booted anew since"
    box.kernel = "6.1.0-21"
    assert box.do("check", document).state == "well"
    box.do("keep", document)
    assert box.do("changes", document).after == ""


def test_a_reboot_is_the_sites_to_allow_and_to_time(tmp_path: Path) -> None:
    box = two_packages(tmp_path)
    document = box.document(NEW, reboot="window")
    box.all(document, "stage", "switch")
    (box.root / "run/reboot-required").touch()
    assert box.do("check", document).state == "reboot"
    assert box.ask("reboot").error == "this site's configuration does not allow a reboot: [os] reboot = true"
    box.config = OsConfig(reboot=True)
    assert box.ask("reboot").error == "this site's configuration names no window for reboots: [os] reboot_windows"
    box.config = OsConfig(reboot=True, reboot_windows=("Wed 23:00-01:00",), time_zone="Europe/Berlin")
    answer = box.ask("reboot")
    assert (answer.error, answer.transient) == ("a reboot waits for Wed 23:00-01:00 (Europe/Berlin)", True)
    assert box.rebooted == 0
    box.now += timedelta(hours=11)  # from Wednesday noon, UTC, to midnight there
    box.do("reboot")
    assert box.rebooted == 1
