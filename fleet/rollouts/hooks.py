"""What webhooks say and how: kinds of messages, the signature, when to try again, which addresses may be given. Pure.

The signature is that of the Standard Webhooks specification: HMAC-SHA-256 over `id.timestamp.body`, as base64 after
`v1,`.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from fleet.rollouts.gates import Outcome
from fleet.rollouts.states import LaneEvent, StepEvent, WaveEvent
from fleet.rollouts.states import RolloutEvent as Event

VERSION: Final = 1
TEST: Final = "webhook.test"
GIVE_UP_AFTER: Final = timedelta(hours=24)
OFF_AFTER: Final = timedelta(days=3)
BOTH_SECRETS_FOR: Final = timedelta(hours=24)
KEPT_FOR: Final = timedelta(days=30)
MAX_URL_CHARS: Final = 500
SECRET_PREFIX: Final = "whsec_"  # noqa: S105  (how every secret begins)
_FIRST_S, _FACTOR, _MOST_S, _JITTER = 5.0, 3.0, 4 * 3600.0, 0.2

# What happens, as tables name it (thing, event), and the kind of message that tells it.
KINDS: Final[dict[tuple[str, str], str]] = {
    ("rollout", Event.PLAN): "rollout.planned",
    ("rollout", Event.EDIT): "rollout.edited",
    ("rollout", Event.SUBMIT): "rollout.submitted",
    ("rollout", Event.APPROVE): "rollout.approved",
    ("rollout", Event.REJECT): "rollout.rejected",
    ("rollout", Event.EXPIRE): "rollout.expired",
    ("rollout", Event.START): "rollout.started",
    ("rollout", Event.PAUSE): "rollout.paused",
    ("rollout", Event.HOLD): "rollout.held",
    ("rollout", Event.RESUME): "rollout.resumed",
    ("rollout", Event.SUCCEED): "rollout.succeeded",
    ("rollout", Event.SUCCEED_PARTLY): "rollout.partially_succeeded",
    ("rollout", Event.FAIL): "rollout.failed",
    ("rollout", Event.ABORT): "rollout.aborting",
    ("rollout", Event.ABORT_DONE): "rollout.aborted",
    ("rollout", Event.ROLL_BACK): "rollout.rolling_back",
    ("rollout", Event.ROLLBACK_DONE): "rollout.rolled_back",
    ("rollout", Event.ROLLBACK_FAIL): "rollout.rollback_failed",
    ("wave", WaveEvent.OPEN): "rollout.wave.opened",
    ("wave", WaveEvent.SETTLE): "rollout.wave.soaking",
    ("wave", WaveEvent.REOPEN): "rollout.wave.reopened",
    ("wave", WaveEvent.ASK_GATE): "rollout.wave.at_gate",
    ("wave", WaveEvent.GO_ON): "rollout.wave.passed",
    ("wave", WaveEvent.HOLD): "rollout.wave.held",
    ("wave", WaveEvent.UNDO): "rollout.wave.rolled_back",
    ("wave", WaveEvent.RETRY): "rollout.wave.retried",
    ("wave", WaveEvent.EXCUSE): "rollout.wave.excused",
    ("wave", WaveEvent.RECHECK): "rollout.wave.rechecked",
    ("wave", WaveEvent.SKIP): "rollout.wave.skipped",
    ("wave", WaveEvent.FAIL): "rollout.wave.failed",
    ("wave", WaveEvent.CANCEL): "rollout.wave.cancelled",
    ("gate", Outcome.GOES): "rollout.gate.passed",
    ("gate", Outcome.FAIL): "rollout.gate.failed",
    ("gate", Outcome.INCONCLUSIVE): "rollout.gate.inconclusive",
    ("gate", Outcome.ERROR): "rollout.gate.error",
    ("lane", LaneEvent.HALT): "rollout.lane.halted",
    ("lane", LaneEvent.REOPEN): "rollout.lane.reopened",
    ("lane", LaneEvent.CLOSE): "rollout.lane.closed",
    # Of sites only what somebody may have to act on: a wave of thousands would else be as many messages.
    ("step", StepEvent.FAIL): "rollout.site.failed",
    ("step", StepEvent.ROLLBACK_FAIL): "rollout.site.rollback_failed",
    ("step", "escalate"): "rollout.site.waiting_long",
}
# What happens to SLAs, by the names that slas.states gives it.
SLA_KINDS: Final = (
    *("sla.outage.opened", "sla.outage.ended", "sla.outage.corrected"),
    *("sla.dispute.filed", "sla.dispute.withdrawn", "sla.dispute.decided"),
    *("sla.budget.burning", "sla.budget.calm"),
    *("sla.report.final", "sla.report.restated"),
)
ALL_KINDS: Final = (*KINDS.values(), *SLA_KINDS)


def wanted_by(kinds: Iterable[str], kind: str) -> bool:
    """Whether an endpoint that names `kinds` hears of `kind`; one that names none hears of all, a test always."""
    named = tuple(kinds)
    return not named or kind in named or kind == TEST


# The signature ----------------------------------------------------------------------------------------------
def derived_secret(key: str, salt: str) -> bytes:
    """The secret of an endpoint, 32 bytes: it is stored nowhere, and follows from the installation's key and a salt."""
    return hmac.new(key.encode(), b"webhook:" + salt.encode(), hashlib.sha256).digest()


def spelled(secret: bytes) -> str:
    """A secret as people and libraries of receivers take it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signature(secret: bytes, message: str, timestamp: int, body: str) -> str:
    """One signature of the header webhook-signature; `timestamp` in seconds since the epoch."""
    signed = f"{message}.{timestamp}.{body}".encode()
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


# Time -------------------------------------------------------------------------------------------------------
def wait_s(attempts: int, luck: float) -> float:
    """Seconds until the next try after so many: 5 s, three times as long each time, up to 4 h, a fifth more or less.

    `luck` from 0 to 1 spreads those that failed together.
    """
    base = min(_FIRST_S * _FACTOR ** min(max(attempts, 1) - 1, 20), _MOST_S)
    return base + base * _JITTER * (2 * luck - 1)


def next_try(now: datetime, attempts: int, luck: float, give_up_at: datetime) -> datetime | None:
    """When to try again, or None: it is given up."""
    at = now + timedelta(seconds=wait_s(attempts, luck))
    return at if at <= give_up_at else None


# Addresses --------------------------------------------------------------------------------------------------
class UrlError(ValueError):
    """An address cannot be taken; says why."""


def host_of(url: str, *, http: bool) -> tuple[str, int]:
    """(host, port) of an address that may be given; `http`: whether http is taken beside https. Raises UrlError.

    Where it leads is vetted whenever it is called.
    """
    if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise UrlError(f"An address has at most {MAX_URL_CHARS} printable ASCII characters, and no blanks.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UrlError("That is no address.") from None
    if parts.scheme not in (("https", "http") if http else ("https",)):
        raise UrlError("An address begins with https://.")
    if not host or port == 0:
        raise UrlError("That address names no host.")
    if parts.username is not None or parts.password is not None:
        raise UrlError("No name or password goes into an address; receivers check the signature.")
    if "#" in url:
        raise UrlError("What follows # is never sent; leave it away.")
    return host, port or (443 if parts.scheme == "https" else 80)
