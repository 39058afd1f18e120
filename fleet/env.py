"""Typed reading of the environment; whatever is missing or malformed fails loudly, by name."""

import json
import os
import re
from collections.abc import Sequence
from email.utils import getaddresses
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from agent.protocol.identity import check_fleet

ROOT = Path(__file__).resolve().parent.parent
_ADDRESS = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+")
RUN_FILE = ROOT / ".run" / "env.json"


class EnvironmentError_(RuntimeError):
    """A variable is missing or cannot be read; the message names it."""


def _run_file() -> dict[str, str]:
    """Values left by a running `manage.py up`, so that commands in another shell reach the same system."""
    try:
        values = json.loads(RUN_FILE.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EnvironmentError_(f"{RUN_FILE} cannot be read: {error}") from error
    return {str(name): str(value) for name, value in values.items()}


def text(name: str, default: str | None = None) -> str:
    """Value of `name`, or of the file that `name`_FILE points at, or of the run file, or `default`.

    Raises EnvironmentError_ when there is none of them.
    """
    if name in os.environ:
        return os.environ[name]
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise EnvironmentError_(f"{name}_FILE cannot be read: {error}") from error
    running = _run_file()
    if name in running:
        return running[name]
    if default is None:
        raise EnvironmentError_(f"{name} is not set (and no `manage.py up` is running); see docs/configuration.md")
    return default


def integer(name: str, default: int, *, least: int, most: int) -> int:
    """Whole number in [least, most]. Raises EnvironmentError_."""
    raw = text(name, str(default))
    try:
        value = int(raw)
    except ValueError:
        raise EnvironmentError_(f"{name} must be a whole number, not {raw!r}") from None
    if not least <= value <= most:
        raise EnvironmentError_(f"{name} must be from {least} to {most}, not {value}")
    return value


def flag(name: str, *, default: bool) -> bool:
    """True for 1/true/yes/on, false for 0/false/no/off. Raises EnvironmentError_."""
    raw = text(name, "1" if default else "0").strip().lower()
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off", ""}:
        return False
    raise EnvironmentError_(f"{name} must be 0 or 1, not {raw!r}")


def words(name: str, default: str = "") -> list[str]:
    """Comma-separated list, blanks dropped."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def numbers(name: str) -> list[int]:
    """Comma-separated whole numbers, none of them negative. Raises EnvironmentError_."""
    found = words(name)
    if not all(word.isascii() and word.isdigit() for word in found):
        raise EnvironmentError_(f"{name} must be whole numbers, comma-separated, not {text(name)!r}")
    return [int(word) for word in found]


def choice(name: str, options: Sequence[str]) -> str:
    """One of `options`; the first is the default. Raises EnvironmentError_."""
    value = text(name, options[0])
    if value not in options:
        raise EnvironmentError_(f"{name} must be {' or '.join(options)}, not {value!r}")
    return value


def dns_name(name: str, default: str) -> str:
    """A name that may stand in certificates. Raises EnvironmentError_."""
    try:
        return check_fleet(text(name, default))
    except ValueError as error:
        raise EnvironmentError_(f"{name}: {error}") from None


def mailbox(name: str, default: str) -> str:
    """An address that mail may come from: `name@domain`, or `Some Name <name@domain>`. Raises EnvironmentError_."""
    value = text(name, default)
    found = getaddresses([value])
    if not value.isprintable() or len(found) != 1 or not _ADDRESS.fullmatch(found[0][1]):
        raise EnvironmentError_(f"{name} must be like Archipelago <reports@example.com>, not {value!r}")
    return value


def database(name: str) -> dict[str, object]:
    """Django's database settings from a postgres:// URL (a socket directory goes in ?host=).

    Raises EnvironmentError_ for another scheme or a URL without a database.
    """
    url = urlsplit(text(name))
    if url.scheme not in {"postgres", "postgresql"}:
        raise EnvironmentError_(f"{name} must begin with postgres:// (PostgreSQL is the only database)")
    query = {key: values[-1] for key, values in parse_qs(url.query).items()}
    database_name = unquote(url.path.lstrip("/"))
    if not database_name:
        raise EnvironmentError_(f"{name} names no database")
    host = query.pop("host", url.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database_name,
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": host,
        "PORT": str(url.port or query.pop("port", "")),
        "CONN_MAX_AGE": 0,
        "OPTIONS": dict(query),
    }


def redis_url(number: int) -> str:
    """REDIS_URL with the database number set (0 broker, 1 channel layer, 2 counters and cache)."""
    url = urlsplit(text("REDIS_URL"))
    if url.scheme == "unix":
        return f"unix://{url.path}?db={number}"
    if url.scheme in {"redis", "rediss"}:
        return url._replace(path=f"/{number}").geturl()
    raise EnvironmentError_("REDIS_URL must begin with redis://, rediss:// or unix://")


def broker_url() -> str:
    """The same Redis, in the form that Celery's transport reads."""
    url = urlsplit(redis_url(0))
    if url.scheme == "unix":
        return f"redis+socket://{url.path}?virtual_host=0"
    return url.geturl()
