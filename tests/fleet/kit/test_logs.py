"""Log lines: one an event, whatever is in it."""

import logging

from fleet.kit.logs import LineFormatter


def line(message: str, *args: object, **extra: object) -> str:
    record = logging.makeLogRecord(
        {
            "name": "sites.poller",
            "levelno": 20,
            "levelname": "INFO",
            "msg": message,
            "args": args,
            "created": 1.25,
            **extra,
        }
    )
    return LineFormatter().format(record)


def test_a_line_has_time_level_logger_message_and_fields():
    assert (
        line("polled %s", "all", sites=300, late_ms=12)
        == "00:00:01.250 INFO sites.poller polled all sites=300 late_ms=12"
    )


def test_hostile_text_starts_no_line_of_its_own():
    text = line("said %s", "x\n00:00:02.000 ERROR forged\r", site="a\nb")
    assert "\n" not in text
    assert "\r" not in text
    assert text.endswith("\\r site=a\\nb")
    assert "\x1b" not in line("\x1b[2J")
    assert "said x\\n00:00:02.000 ERROR forged\\r" in text


def test_a_traceback_follows_on_lines_of_its_own():
    try:
        raise ValueError("broken")
    except ValueError as error:
        text = line("failed", exc_info=(ValueError, error, error.__traceback__))
    assert text.splitlines()[0] == "00:00:01.250 INFO sites.poller failed"
    assert text.splitlines()[-1] == "ValueError: broken"
