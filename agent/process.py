"""What a long-running agent process needs of the operating system."""

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import signal
import socket
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the parent process ends; end at once if it is gone already."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)


def raise_file_limit() -> int:
    """Lift the limit of open files as far as this user may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a hard limit may be above what the kernel grants
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else sys.maxsize


def log_to_stdout(level: str = "info") -> None:
    """One readable line an event, from that level on."""
    logging.basicConfig(
        stream=sys.stdout, level=level.upper(), format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )


def signal_to_end() -> asyncio.Future[str]:
    """From now on SIGTERM and SIGINT do not kill this process but resolve the future, to the signal's name."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[str] = loop.create_future()

    def ask(name: str) -> None:
        if not asked.done():
            asked.set_result(name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number.name)
    return asked


def tell_systemd(message: str) -> bool:
    """Send the service manager a line such as `READY=1` (sd_notify's datagram). False where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(message.encode())
        return True
    return False


async def feed_watchdog() -> None:
    """Tell the service manager twice in its interval that this loop turns; ends at once where it does not ask."""
    period = os.environ.get("WATCHDOG_USEC", "")
    if (
        not period.isdecimal()
        or int(period) == 0
        or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid())
    ):
        return
    while True:
        tell_systemd("WATCHDOG=1")  # one that is lost does not matter, the next one comes
        await asyncio.sleep(int(period) / 2e6)
