"""Where the stack keeps its data, sockets, logs and secrets, and as which user PostgreSQL runs."""

import errno
import fcntl
import hashlib
import json
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.stack.errors import StackError

ROOT = Path(__file__).resolve().parent.parent.parent
SYSTEM_STATE = Path("/var/lib/archipelago")
SERVICE_USER = "archipelago"
SOCKET_PATH_BYTES = 107  # sun_path of Linux, less its closing NUL
LONGEST_SOCKET_NAME = len("/postgres/.s.PGSQL.5432.lock")
FREE_BYTES_NEEDED = 600_000_000


@dataclass(frozen=True)
class User:
    """A system user that a child process becomes."""

    uid: int
    gid: int


@dataclass(frozen=True)
class State:
    """Folders of one stack. `base` keeps data between runs, `runtime` has the sockets, `service_user` owns PostgreSQL.

    `service_user` is None when we are not root: then everything runs as ourselves.
    """

    base: Path
    runtime: Path
    service_user: User | None

    @property
    def logs(self) -> Path:
        """Folder of the children's log files."""
        return self.base / "logs"

    @property
    def secrets_file(self) -> Path:
        """File of the generated passwords, mode 600."""
        return self.base / "secrets.json"

    def secret(self, name: str) -> str:
        """The secret called `name`, made at random and kept when it does not exist yet. Changes secrets.json."""
        try:
            known = json.loads(self.secrets_file.read_text())
        except FileNotFoundError:
            known = {}
        if name not in known:
            known[name] = secrets.token_urlsafe(36 if name == "SECRET_KEY" else 15)
            write_private(self.secrets_file, json.dumps(known, indent=1))
        return str(known[name])

    @contextmanager
    def locked(self, name: str, note: str) -> Iterator[None]:
        """Hold the lock `name` and leave `note` in it. Raises BlockingIOError(EAGAIN, note of the holder)."""
        descriptor = os.open(self.base / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(errno.EAGAIN, os.read(descriptor, 1000).decode()) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note.encode(), 0)
            yield
        finally:
            os.close(descriptor)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def write_private(path: Path, text: str) -> None:
    """Replace the file by `text` in one step, readable by its owner alone."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def open_state(kind: str = "", *, base: Path | None = None, free_bytes: int = FREE_BYTES_NEEDED) -> State:
    """Make (or find) the state folders and return them.

    `base` is ARCHIPELAGO_STATE_DIR where it is set. Without it, root uses /var/lib/archipelago/<hash of this
    checkout>, others <checkout>/.state. `kind` names a folder below it for a stack apart ("test-0").
    Raises StackError when a folder cannot be written, is not ours, or has less than `free_bytes` left.
    """
    user = service_user() if os.geteuid() == 0 else None
    key = hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:12]
    override = os.environ.get("ARCHIPELAGO_STATE_DIR")
    if base is None:
        base = Path(override).absolute() if override else SYSTEM_STATE / key if user else ROOT / ".state"
    base = base / kind
    try:
        # Root's folders let the service user pass through to PostgreSQL's own, but not look around.
        _make_folder(base, 0o711 if user else 0o700)
        for private in ("logs", "demo"):
            _make_folder(base / private, 0o700)
        runtime = _runtime_folder(base, user)
        free = shutil.disk_usage(base).free
    except OSError as error:
        raise StackError(f"The state folder {base} cannot be used: {_reason(error)}.") from error
    if user and not can_pass(base, user):
        raise StackError(f"The state folder {base} lies in a private folder, which PostgreSQL's own user cannot enter.")
    if free < free_bytes:
        raise StackError(
            f"Not enough free space in {base}: {free // 10**6} MB are left, {free_bytes // 10**6} MB are needed."
        )
    return State(base=base, runtime=runtime, service_user=user)


def service_user() -> User:
    """The unprivileged user that PostgreSQL runs as when we are root; made when that is possible, else `nobody`.

    Raises StackError when there is neither.
    """
    for name in (SERVICE_USER, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            if name == "nobody" or not _add_system_user(name):
                continue
            entry = pwd.getpwnam(name)
        return User(entry.pw_uid, entry.pw_gid)
    raise StackError(f"PostgreSQL does not run as root, and there is no user {SERVICE_USER} or nobody to run it as.")


def _add_system_user(name: str) -> bool:
    program = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        return False
    command = [program, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    command += ["--shell", "/usr/sbin/nologin", name]
    made = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - nothing of it comes from outside
    return made.returncode == 0


def can_pass(path: Path, user: User) -> bool:
    """Whether `user` may enter the folder `path` and each one above it."""
    for folder in (path, *path.parents):
        mode = folder.stat()
        bit = stat.S_IXUSR if mode.st_uid == user.uid else stat.S_IXGRP if mode.st_gid == user.gid else stat.S_IXOTH
        if not mode.st_mode & bit:
            return False
    return True


def _make_folder(path: Path, mode: int) -> None:
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    if path.stat().st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, f"{path} belongs to another user")
    path.chmod(mode)
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, f"no right to write to {path}")


def _runtime_folder(base: Path, user: User | None) -> Path:
    """Folder for sockets: below `base` when that is short enough for a socket address, else a private short one."""
    folder = base / "run"
    if user is None or len(os.fsencode(folder)) + LONGEST_SOCKET_NAME > SOCKET_PATH_BYTES:
        short = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        key = hashlib.sha256(os.fsencode(base)).hexdigest()[:12]
        folder = short / f"archipelago-{os.geteuid()}-{key}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()  # anyone may plant a folder in the shared temporary directory
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, f"{folder} belongs to another user") from None
    folder.chmod(0o711 if user else 0o700)
    return folder
