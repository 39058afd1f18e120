"""What several commands need: the API that is meant, --json, and how answers are printed."""

import argparse
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from archipelago.client import Client
from archipelago.config import read_config
from archipelago.text import as_json


def client() -> Client:
    """The API of the configuration. Raises UsageError."""
    return Client(read_config(os.environ))


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print it as JSON, as the API gives it")


def add_limit(parser: argparse.ArgumentParser, default: int) -> None:
    """--limit."""
    parser.add_argument("--limit", type=_limit, default=default, metavar="N", help=f"at most so many; else {default}")


def show(value: Any, lines: Iterable[str], options: argparse.Namespace) -> None:
    """Print an answer: as JSON, or in lines."""
    print(as_json(value) if options.json else "\n".join(lines))


def now() -> datetime:
    """The moment that ages are counted from."""
    return datetime.now(UTC)


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000000")
    return int(text)
