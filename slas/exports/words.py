"""How the figures of a report are written in its files."""

import re
from calendar import month_name
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

from slas.currencies import PLACES
from slas.rounding import percent_2

MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
VERDICTS: Final = {"MET": "Met", "MISSED": "Missed", "UNDETERMINED": "Undetermined", None: "Nothing measured"}


RESPONSE: Final = "response"
RESTORED: Final = {
    "restoration mttr_h": "Mean time to restore, hours",
    "restoration longest_h": "Longest outage, hours",
    "restoration count": "Outages",
    "restoration mtbf_h": "Mean time between outages, hours",
    RESPONSE: "Answered in time, per cent",
}


def month_words(text: str) -> str:
    """`2026-11` as November 2026."""
    return f"{MONTHS[int(text[5:7]) - 1]} {text[:4]}"


def period_words(period: str) -> str:
    """`2026-11`, `2026-Q4`, `2026`, `2026-11-03..2026-11-20` as people say them."""
    if ".." in period:
        return " to ".join(period.split(".."))
    if "Q" in period:
        return f"quarter {period[-1]} of {period[:4]}"
    return month_words(period) if "-" in period else period


def name_of(word: str) -> str:
    """`operator_rollout` as Operator rollout."""
    return word.replace("_", " ").capitalize()


def period_text(period: str) -> str:
    """`2026-11` as November 2026, `2026-Q4` as Quarter 4 of 2026, days with `to` between; a year as it is."""
    if found := re.fullmatch(r"(\d{4})-(\d{2})", period):
        return f"{month_name[int(found[2])]} {found[1]}"
    if found := re.fullmatch(r"(\d{4})-Q(\d)", period):
        return f"Quarter {found[2]} of {found[1]}"
    return period.replace("..", " to ")


def percent(share: Fraction | None) -> str:
    """A share as people read it: rounded down at two places, so that 99.999 is never 100."""
    found = percent_2(share)
    return "–" if found is None else f"{found} %"


def duration(ms: int) -> str:
    """Milliseconds as `2 d 03:04:05`; what is finer than a second is cut off."""
    seconds = ms // 1000
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock


def moment(at: datetime | None, zone: str) -> str:
    """A moment on the wall clock of the contract's zone."""
    return "lasts" if at is None else f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}"


OUTCOMES: Final = {"on_time": "On time", "late": "Late", "pending": "Pending"}
OWNERS: Final = {"freeze": "Freeze", "operator": "Operator", "network": "Network", "provider": "Provider"}


def span_text(ms: int | None) -> str:
    """A duration that may not be reached."""
    return "–" if ms is None else duration(ms)


def trips_text(ms: int | None) -> str:
    """A round trip."""
    return "–" if ms is None else f"{ms} ms"


def credit_text(credit: Decimal, fee: Decimal, currency: str, part: Fraction) -> str:
    """A credit, and of which fee it is."""
    return f"{credit} {currency} of a fee of {fee_text(fee, currency)} for {percent(part)} of the period"


def fee_text(fee: Decimal, currency: str) -> str:
    """A fee with as many places as its currency has, and the currency."""
    return f"{fee:.{PLACES[currency]}f} {currency}"


def hours_text(hours: Decimal) -> str:
    """Hours without zeros at their end."""
    return f"{hours.normalize():f} h"


def restored_text(measure: str, figure: Fraction | None) -> str:
    """A figure of restoration in its unit; a share of answers as a percentage."""
    if figure is None:
        return "–"
    return percent(figure) if measure == RESPONSE else f"{float(figure):.2f}"
