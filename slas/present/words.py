"""Names of SLAs as people say them."""

from decimal import Decimal
from typing import Final

from slas.currencies import PLACES

MEASURES: Final = {
    "availability": "Availability",
    "reachability": "Reachability",
    "version_sync": "Version synchronisation",
    "restoration": "Restoration",
    "response": "Response",
    "latency": "Latency",
}
SCOPES: Final = {"each_site": "each site", "pooled": "all sites together", "share_of_sites": "a share of the sites"}
BURDENS: Final = {
    "provider": "unknown time counts as down",
    "operator": "unknown time counts as up",
    "open": "unknown time is settled by a manager",
}
# A verdict is a shape and a word, never colour alone.
VERDICTS: Final = {"MET": ("up", "Met"), "MISSED": ("down", "Missed"), "UNDETERMINED": ("degraded", "Undetermined")}
NO_VERDICT: Final = ("unknown", "Nothing measured")


def money(amount: Decimal, currency: str) -> str:
    """An amount with as many decimal places as its currency has, its thousands apart."""
    return f"{amount:,.{PLACES[currency]}f}"


def trimmed(number: str) -> str:
    """A decimal number without the zeros at its end."""
    return number.rstrip("0").rstrip(".") if "." in number else number


def span_words(ms: int) -> str:
    """Milliseconds as people read a loss: `2 h 05 min`, `40 s`, `none`."""
    seconds = ms // 1000
    if seconds == 0:
        return "none"
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    if seconds < 86_400:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds // 86_400} d {seconds % 86_400 // 3600} h"
