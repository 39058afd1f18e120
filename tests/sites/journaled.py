"""A site that writes a journal, and the centre that reads it: signed pages, real rows."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.journal import Journal
from agent.journal_file import Draft
from agent.protocol import Resources, Verdict
from agent.protocol.entries import Alive, Body
from agent.protocol.journal import Page, open_page, seal_page
from fleet.kit.signing import Issued
from sites.journal_states import Anchor
from sites.models import JournalCursor, Outage, Site, SiteIdentity, StateInterval
from sites.services.backfill import record_page
from sites.services.enrolment import record_certificates
from tests.sites.identities import keys

OWNER = "owner"
_serials = count(1 << 64)
NOW = datetime.now(UTC).replace(microsecond=0)
FIGURES = Resources(
    cpu_count=4, cpu_ratio=0.5, mem_bytes=1, mem_total_bytes=4, disk_bytes=1, disk_total_bytes=4, temp_celsius=40.0
)


class SiteWithJournal:
    """A site whose journal the test writes, and the centre that reads it."""

    def __init__(self, site: Site, journal: Journal) -> None:
        self.site, self.journal = site, journal
        self.boots = {"a": NOW - timedelta(days=3)}
        self.join(Ed25519PrivateKey.generate())

    def join(self, key: Ed25519PrivateKey) -> None:
        """Have these keys accepted in place of those before, and certified."""
        self.key, self.public = key, key.public_key().public_bytes_raw()
        SiteIdentity.objects.using(OWNER).filter(site=self.site, state="accepted").update(state="replaced")
        self.identity = keys(self.site, "accepted", signing_key=self.public, tls_key=b"t" + self.public)
        self.certify()

    def certify(self) -> None:
        """Write down a certificate of the keys that are accepted."""
        issued = Issued(("pem",), f"{next(_serials):040x}", NOW, NOW + timedelta(days=7), "0" * 64, "s-0.p1.sites.test")
        record_certificates([(self.identity.pk, issued)], route="enrol")

    def write(self, minutes_ago: float, body: Body, boot: str = "a") -> None:
        self.write_many([(minutes_ago, body)], boot)

    def write_many(self, entries: Iterable[tuple[float, Body]], boot: str = "a") -> None:
        """Entries of any minutes ago, in one commit."""
        self.journal.append_many([self._draft(minutes_ago, body, boot) for minutes_ago, body in entries])

    def _draft(self, minutes_ago: float, body: Body, boot: str) -> Draft:
        at = NOW - timedelta(minutes=minutes_ago)
        return Draft(self.site.uuid, body, boot, round((at - self.boots[boot]).total_seconds() * 1000), at)

    def live(self, begin: float, end: float, boot: str = "a") -> None:
        """`alive` once a minute, from so many minutes ago to so many."""
        self.write_many([(begin - step, Alive()) for step in range(int(begin - end) + 1)], boot)

    def verdict(self, minutes_ago: float, state: str, boot: str = "a") -> None:
        self.write(minutes_ago, Verdict(state, NOW), boot)

    def anchor(self, boot: str = "a") -> Anchor:
        seq, _ = self.journal.head(self.site.uuid)
        return Anchor(NOW, boot, round((NOW - self.boots[boot]).total_seconds() * 1000), 0, 12, seq)

    def page(self, after: int, prev: str | None = None) -> tuple[Page, bytes]:
        body = seal_page(self.journal.page(self.site.uuid, after), site=self.site.uuid, signing_key=self.key)
        return open_page(body, site=self.site.uuid, signing_key=self.public, after=after, prev=prev), body

    def read_all(self, boot: str = "a") -> int:
        """Have the centre read to the end; returns how many pages that took."""
        pages, after, head = 0, 0, None
        cursor = JournalCursor.objects.using(OWNER).filter(site=self.site).first()
        if cursor is not None:
            after, head = cursor.seq, cursor.head
        while after < self.journal.head(self.site.uuid)[0]:
            page, body = self.page(after, head)
            assert self.record(page, body, boot)
            pages, after, head = pages + 1, page.to, page.head
        return pages

    def record(self, page: Page, body: bytes, boot: str = "a") -> bool:
        return record_page(page, body, site_id=self.site.pk, identity_id=self.identity.pk, anchor=self.anchor(boot))

    def availability(self) -> list[tuple[str, float | None, float | None, str]]:
        """What stands: state, begin and end in minutes before NOW, source."""
        rows = StateInterval.objects.using(OWNER).filter(site=self.site, axis="availability", superseded_at=None)
        return [(row.state, ago(row.valid_from), ago(row.valid_to), row.source) for row in rows.order_by("valid_from")]

    def outages(self) -> list[tuple[float | None, float | None, str, str]]:
        rows = Outage.objects.using(OWNER).filter(site=self.site, superseded_at=None).order_by("valid_from")
        return [(ago(row.valid_from), ago(row.valid_to), row.cause, row.source) for row in rows]


def ago(moment: datetime | None) -> float | None:
    return None if moment is None else round((NOW - moment) / timedelta(minutes=1), 3)
