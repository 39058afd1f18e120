"""Where the stack keeps its things."""

import os
import stat
from pathlib import Path

import pytest

from fleet.stack.errors import StackError
from fleet.stack.state import State, can_pass, open_state
from tests.fleet.stack.conftest import AS_ROOT


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_private(state: State) -> None:
    # Root's lets PostgreSQL's own user pass through, and shows it nothing.
    assert mode(state.base) == (0o711 if AS_ROOT else 0o700)
    assert mode(state.logs) == 0o700
    assert mode(state.base / "demo") == 0o700
    assert state.runtime.stat().st_uid == os.geteuid()


def test_sockets_fit_their_addresses(public_folder: Path) -> None:
    state = open_state(base=public_folder / ("deep" * 30))
    assert len(os.fsencode(state.runtime / "postgres" / ".s.PGSQL.5432")) < 108


def test_secrets_are_kept_and_private(state: State) -> None:
    secret = state.secret("app_password")
    assert len(secret) >= 20
    assert State(state.base, state.runtime, state.service_user).secret("app_password") == secret
    assert state.secret("owner_password") != secret
    assert mode(state.secrets_file) == 0o600


def test_lock_names_its_holder(state: State) -> None:
    with state.locked("up.lock", "127.0.0.1:8000 (process 7)"):
        with pytest.raises(BlockingIOError) as refused, state.locked("up.lock", "another"):
            pass
        assert refused.value.strerror == "127.0.0.1:8000 (process 7)"
    with state.locked("up.lock", "another"):
        assert (state.base / "up.lock").read_text() == "another"


def test_full_disk_is_one_line(public_folder: Path) -> None:
    with pytest.raises(StackError) as refused:
        open_state(base=public_folder / "full", free_bytes=1 << 60)
    assert str(refused.value).startswith(f"Not enough free space in {public_folder}/full: ")
    assert "\n" not in str(refused.value)


def test_no_right_to_write_is_one_line() -> None:
    with pytest.raises(StackError) as refused:
        open_state(base=Path("/proc/archipelago"))
    assert str(refused.value) == "The state folder /proc/archipelago cannot be used: no such file or directory."


def test_a_file_in_the_way_is_one_line(public_folder: Path) -> None:
    (public_folder / "file").touch()
    with pytest.raises(StackError, match=r"^The state folder .* cannot be used: not a directory\.$"):
        open_state(base=public_folder / "file" / "state")


@pytest.mark.skipif(not AS_ROOT, reason="only root has a second user to give folders to")
def test_foreign_runtime_folder_is_refused(public_folder: Path) -> None:
    base = public_folder / ("x" * 90)
    planted = open_state(base=base).runtime
    os.chown(planted, 65534, 65534)
    with pytest.raises(StackError, match="belongs to another user"):
        open_state(base=base)
    os.chown(planted, 0, 0)


@pytest.mark.skipif(not AS_ROOT, reason="only root runs PostgreSQL as another user")
def test_private_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="lies in a private folder"):
        open_state(base=tmp_path / "state")


@pytest.mark.skipif(not AS_ROOT, reason="only root has a second user to give folders to")
def test_passing_follows_owner_group_and_others(state: State) -> None:
    user = state.service_user
    assert user is not None
    folder = state.base / "probe"
    folder.mkdir(mode=0o700)
    assert not can_pass(folder, user)
    os.chown(folder, 0, user.gid)
    folder.chmod(0o710)
    assert can_pass(folder, user)
    os.chown(folder, user.uid, 0)
    assert not can_pass(folder, user) or mode(folder) & 0o100
