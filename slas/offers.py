"""What is known of a standard that was offered to a site. Pure; whoever rolls standards out says it."""

from typing import NamedTuple

from slas.version_sync import Owner


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
