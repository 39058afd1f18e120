"""How fast journals become history: `python -m bench backfill`, which runs this module in the stack's environment.

Signed pages of 1,000 entries go through the real path: every byte checked, stored by record_page() into PostgreSQL.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.protocol import Component, Resources, Verdict, components_digest
from agent.protocol.entries import GENESIS, Alive, Body, Components, Entry, Start, digest_of, encode_entry, kind_of
from agent.protocol.journal import Excerpt, open_page, seal_page
from bench.cpu import tree_cpu_s
from bench.result import Figure, machine
from bench.stack import Stack
from fleet.stack.process import Program
from fleet.stack.state import ROOT

SITES, PAGES, PAGES_QUICK = 10, 20, 4
PAGE_ENTRIES = 1_000
DAYS = 30
AIM = 10_000
Say = Callable[[str], None]

# As if the sites had been known, and silent, for a month; whose journals now come.
_SILENT = """
UPDATE edge_sites_sitetenure SET valid_from = now() - interval '30 days';
UPDATE edge_sites_stateinterval SET valid_from = now() - interval '30 days';
SELECT make_partitions(parent, (now() AT TIME ZONE 'UTC')::date - 30, 32)
FROM unnest(ARRAY['sample', 'sample_5m', 'sample_1h']) AS parent
"""


def backfill(say: Say, *, quick: bool) -> Figure:
    """Entries of journals a second of CPU, our process and PostgreSQL added up."""
    pages = PAGES_QUICK if quick else PAGES
    with Stack() as stack:
        stack.grow(SITES)
        stack.execute(_SILENT)
        answer = stack.state.base / "backfill.json"
        environ = stack.environ | {"BENCH_PAGES": str(pages), "BENCH_ANSWER": str(answer)}
        environ["BENCH_POSTGRES"] = str(stack.pids()["postgres"])
        say(f"{SITES * pages * PAGE_ENTRIES:,} entries of {SITES} sites")
        stack.run(Program("backfill", (sys.executable, "-m", "bench.backfill"), ROOT, environ))
        found = json.loads(answer.read_text())
    rate = found["entries"] / (found["own_cpu_s"] + found["postgres_cpu_s"])
    return Figure(
        "backfill",
        round(rate),
        "entries/s",
        f"at least {AIM:,}",
        f"journal entries a second of one core: {found['entries']:,} in signed pages of {PAGE_ENTRIES:,} checked and "
        f"stored, {found['mix']}; CPU {found['own_cpu_s']:.1f} s ours ({found['check_cpu_s']:.1f} s of it checking), "
        f"{found['postgres_cpu_s']:.1f} s PostgreSQL; {found['entries'] / found['wall_s']:,.0f} entries/s by the "
        f"clock; {machine()}",
        met=rate >= AIM,
    )


# A month of a site ------------------------------------------------------------------------------------------
class Written:
    """The journal of one site: signed pages, the oldest first, that end at `now`."""

    def __init__(self, site: UUID, key: Ed25519PrivateKey, *, pages: int, now: datetime) -> None:
        """Half of the entries are signs of life, almost all others figures; each page has a reboot within."""
        self.site, self.key, self.now = site, key, now
        self.counts: dict[str, int] = {}
        self.pages = list(self._pages(pages))

    def _pages(self, pages: int) -> Iterator[bytes]:
        head, seq = GENESIS, 0
        begin = self.now - timedelta(minutes=pages * PAGE_ENTRIES / 2)
        for page in range(pages):
            after, raws = seq, []
            for place, body in enumerate(_bodies(page)):
                at = begin + timedelta(minutes=(page * PAGE_ENTRIES + place) / 2)
                seq += 1
                boot, mono_ms = boot_of(page, place)
                raw = encode_entry(Entry(seq, head, boot, mono_ms, at, kind_of(body), body))
                head = digest_of(raw)
                raws.append(raw)
                self.counts[kind_of(body)] = self.counts.get(kind_of(body), 0) + 1
            yield seal_page(Excerpt(after, seq, head, (), tuple(raws)), site=self.site, signing_key=self.key)


def boot_of(page: int, place: int) -> tuple[str, int]:
    """Boot and milliseconds since then: a reboot at the 500th entry of each page."""
    boots, since = divmod(page * PAGE_ENTRIES + place + PAGE_ENTRIES // 2, PAGE_ENTRIES)
    return f"boot-{boots}", since * 30_000


def _bodies(page: int) -> Iterator[Body]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    parts = tuple(Component("workload", f"part-{number}", f"1.{page}", f"sha256:{number:064x}") for number in range(12))
    for place in range(PAGE_ENTRIES):
        if place == PAGE_ENTRIES // 2:
            yield Start(60_000, "1.0", False, now)
        elif place == PAGE_ENTRIES // 2 + 1:
            yield Components(components_digest(parts), parts)
        elif place == PAGE_ENTRIES // 2 + 2 or place % 200 == 150:
            yield Verdict("up", now)
        elif place % 200 == 130:
            yield Verdict("down" if page % 2 else "degraded", now, ("the disk is full",))
        elif place % 2:
            yield Alive()
        else:
            yield _figures(place)


def _figures(place: int) -> Resources:
    gib = 2**30
    return Resources(
        cpu_count=8,
        cpu_ratio=0.3 + place / 5_000,
        load1=1.25,
        mem_bytes=6 * gib + place,
        mem_total_bytes=16 * gib,
        disk_bytes=160 * gib,
        disk_total_bytes=240 * gib,
        net_rx_bytes_total=9_000_000 * place,
        net_tx_bytes_total=2_000_000 * place,
        temp_celsius=41.5,
        power_watts=118.0,
    )


# Within the stack's environment -----------------------------------------------------------------------------
def main() -> None:
    """Store the pages and write what that took."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    import django

    django.setup()
    from fleet.kit.tenancy import job, scope
    from sites.models import SiteIdentity

    pages, postgres = int(os.environ["BENCH_PAGES"]), int(os.environ["BENCH_POSTGRES"])
    with scope(job("bench")):
        identities = list(SiteIdentity.objects.filter(state="accepted").select_related("site").order_by("pk")[:SITES])
    now = datetime.now(UTC)
    key = Ed25519PrivateKey.generate()
    journals = [Written(identity.site.uuid, key, pages=pages, now=now) for identity in identities]
    before_s = tree_cpu_s([postgres]), time.process_time(), time.monotonic()
    check_cpu_s = 0.0
    for number in range(pages):
        for identity, journal in zip(identities, journals, strict=True):
            check_cpu_s += _record(identity.site_id, identity.pk, journal, number)
    own_cpu_s, wall_s = time.process_time() - before_s[1], time.monotonic() - before_s[2]
    found = {
        "entries": sum(sum(journal.counts.values()) for journal in journals),
        "mix": _mix([journal.counts for journal in journals]),
        "own_cpu_s": own_cpu_s,
        "check_cpu_s": check_cpu_s,
        "postgres_cpu_s": tree_cpu_s([postgres]) - before_s[0],
        "wall_s": wall_s,
    }
    with open(os.environ["BENCH_ANSWER"], "w") as answer:
        json.dump(found, answer)


_heads: dict[int, str] = {}


def _record(site_id: int, identity_id: int, journal: Written, number: int) -> float:
    """Check one page and store it. Returns the CPU seconds of checking."""
    from sites.journal_states import Anchor
    from sites.services.backfill import record_page

    body, began_s = journal.pages[number], time.process_time()
    page = open_page(
        body,
        site=journal.site,
        signing_key=journal.key.public_key().public_bytes_raw(),
        after=number * PAGE_ENTRIES,
        prev=_heads.get(site_id),
    )
    checked_s = time.process_time() - began_s
    _heads[site_id] = page.head
    boot, mono_ms = boot_of(len(journal.pages) - 1, PAGE_ENTRIES - 1)
    anchor = Anchor(journal.now, boot, mono_ms, 0, 5, len(journal.pages) * PAGE_ENTRIES)
    if not record_page(page, body, site_id=site_id, identity_id=identity_id, anchor=anchor):
        raise RuntimeError("a page was not taken")
    return checked_s


def _mix(counts: Sequence[dict[str, int]]) -> str:
    total: dict[str, int] = {}
    for one in counts:
        for kind, count in one.items():
            total[kind] = total.get(kind, 0) + count
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(total.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    main()
