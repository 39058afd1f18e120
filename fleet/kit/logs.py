"""Log lines: one line an event, fields as name=value, no secrets."""

import logging
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}
# What somebody else wrote starts no line and moves no cursor of a terminal.
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {10: "\\n", 13: "\\r", 9: "\\t"}


class LineFormatter(logging.Formatter):
    """`12:00:01.250 INFO sites.poller polled sites=300 late_ms=12`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows on lines of its own."""
        at = datetime.fromtimestamp(record.created, tz=UTC).strftime("%H:%M:%S.%f")[:-3]
        fields = " ".join(f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD)
        told = f"{record.getMessage()}{' ' + fields if fields else ''}".translate(_VISIBLE)
        line = f"{at} {record.levelname} {record.name} {told}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line
