"""What is known of a standard that was offered to a site. Pure; whoever rolls standards out says it."""

from typing import NamedTuple

from slas.version_sync import Owner


class Origin(NamedTuple):
    """What tells of an offer, each by its id: the rollout and its step at the site, the document that was sent first,
    the receipt that says `applied`, and what proves that it ran: an event of the rollout, or a span of components."""

    rollout: int | None = None
    step: int | None = None
    document: int | None = None
    receipt: int | None = None
    event: int | None = None
    components: int | None = None


class Offer(NamedTuple):
    """A site and a standard, all times in milliseconds. `deadline_h` is the standard's own, if it names one.

    `sent` is the first attempt to deliver, or the moment from which only the site's absence or its provider kept it;
    `proven` when the site was first known to run exactly this. `spans` are the operator's time, and frozen time.
    """

    site_id: int
    standard: str
    deadline_h: int | None
    published: int
    offered: int
    sent: int | None
    proven: int | None
    spans: tuple[tuple[int, int, Owner], ...] = ()
    origin: Origin = Origin()
