"""Checks of single values that people and files bring in."""

import ipaddress
import math
import re
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django.core.exceptions import ValidationError

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_KEY = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,62})\Z", re.IGNORECASE)


def validate_free_slug(value: str) -> None:
    """Raise ValidationError for a slug that is a page's own address, such as /sites/new/."""
    if value in {"new", "import", "bulk", "places", "export", "waiting", "recovery"}:
        raise ValidationError(f"{value} is the address of a page")


@cache
def time_zones() -> frozenset[str]:
    """Names of all time zones (read from disk once)."""
    return frozenset(available_timezones())


def split_address(value: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as (host, port). Raises ValueError, saying why."""
    host, separator, port_text = value.rpartition(":")
    if not separator or not port_text.isascii() or not port_text.isdigit():
        raise ValueError("an address is a host, a colon and a port, such as site1.example.net:9100")
    port = int(port_text)
    if not 1 <= port <= 65535:
        raise ValueError("a port is from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        ipaddress.IPv6Address(host[1:-1])
        return host[1:-1], port
    if ":" in host:
        raise ValueError("an IPv6 address goes in brackets, such as [2001:db8::1]:9100")
    if len(host) > 253 or not all(_LABEL.match(label) for label in host.rstrip(".").split(".")):
        raise ValueError("that is no host name")
    return host, port


def validate_address(value: str) -> None:
    """Raise ValidationError unless `value` is host:port. Where it leads is vetted at every dial."""
    try:
        split_address(value)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def validate_finite(value: float) -> None:
    """Raise ValidationError for NaN and infinities, which every comparison lets through."""
    if not math.isfinite(value):
        raise ValidationError("a finite number")


def validate_lines(value: str) -> None:
    """Raise ValidationError for control characters; tabs and line ends are none of them."""
    if _CONTROL.search(value):
        raise ValidationError("No control characters but tabs and line ends.")


def validate_time_zone(value: str) -> None:
    """Raise ValidationError unless `value` is an IANA time zone."""
    if value not in time_zones():
        raise ValidationError(f"{value} is no time zone; one is Europe/Berlin")


def validate_networks(value: Any) -> None:
    """Raise ValidationError unless `value` is a list of networks in CIDR form."""
    if not isinstance(value, list):
        raise ValidationError("a list of networks")
    for item in value:
        try:
            ipaddress.ip_network(item)
        except (ValueError, TypeError):
            raise ValidationError(f"{item} is no network; one is 203.0.113.0/24") from None


def validate_labels(value: Any) -> None:
    """Raise ValidationError unless `value` maps short keys to short strings, at most 32 of them."""
    if not isinstance(value, dict) or len(value) > 32:
        raise ValidationError("labels are at most 32 pairs of key and value")
    for key, item in value.items():
        if not isinstance(key, str) or not _KEY.match(key):
            raise ValidationError(f"{key!r} is no label key (letters, digits, . _ -; at most 63)")
        if not isinstance(item, str) or len(item) > 120 or any(ord(char) < 32 or ord(char) == 127 for char in item):
            raise ValidationError(f"the value of {key} is a text of at most 120 characters")
