"""What the person at the terminal sees of the child processes, and the log files that keep all of it."""

import os
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

LOG_BYTES = 5_000_000
LONGEST_LINE = 4_000
_ADDRESS = re.compile(r"\bhttps?://")
_LEVEL = re.compile(r"\b(DEBUG|INFO|NOTICE|LOG|WARNING|ERROR|CRITICAL|FATAL|PANIC)\b")
_LOUD = frozenset({"WARNING", "ERROR", "CRITICAL", "FATAL", "PANIC"})
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


class Console:
    """Prints whole lines from several threads, each with the name of the process it came from.

    The only address that it lets through is the one of the closing line: so whoever waits for an address in the
    output finds it when the system is ready, not before.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()
        self._coloured = self._stream.isatty() and "NO_COLOR" not in os.environ
        self._colours: dict[str, int] = {}
        self.quiet = False

    def say(self, text: str = "", name: str = "stack") -> None:
        """Print a line of our own."""
        self._print(name, _ADDRESS.sub("", text))

    def closing(self, text: str) -> None:
        """Print a line as it is, without a name before it."""
        self._write(text)

    def relay(self, name: str, line: str, *, loud_before: bool = False) -> bool:
        """Print a child's line unless it is hidden: when quiet, only warnings, errors and what follows them are shown.

        Returns whether the child's next line, should it be a continuation, is shown too.
        """
        continuation = not line[:1].strip()
        level = None if continuation else _LEVEL.search(line[:100])
        loud = loud_before if level is None else level[0] in _LOUD
        if not self.quiet or loud:
            self._print(name, _CONTROL.sub("?", _ADDRESS.sub("", line)))
        return loud

    def _print(self, name: str, text: str) -> None:
        label = f"{name:<9}|"
        if self._coloured:
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            label = f"\x1b[{colour}m{label}\x1b[0m"
        self._write(f"{label} {text}")

    def _write(self, text: str) -> None:
        """Print a line. A terminal that is gone must not stop the readers: children would block on full pipes."""
        with self._lock, suppress(OSError, ValueError):
            print(text, file=self._stream, flush=True)


class LogFile:
    """A child's complete output in `<folder>/<name>.log`; the one before it is kept as `.log.1`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.log"
        self._file: BinaryIO | None = None
        self._size = 0

    def write(self, line: bytes) -> None:
        """Append a line. A full disk loses lines here, and nothing else."""
        try:
            if self._file is None or self._size > LOG_BYTES:
                self._rotate()
            assert self._file is not None
            self._size += self._file.write(line)
            self._file.flush()
        except OSError:
            return

    def close(self) -> None:
        """Close the file; a further line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rotate(self) -> None:
        self.close()
        if self.path.exists() and self.path.stat().st_size > LOG_BYTES:
            self.path.replace(self.path.with_suffix(".log.1"))
        self._file = self.path.open("ab")
        self._size = self.path.stat().st_size
