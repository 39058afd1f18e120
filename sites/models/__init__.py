"""Tables of sites. Samples and their rollups are partitioned and have no model: see migration 0003."""

from sites.models.desired import Blob, DesiredDocument, DesiredReceipt, SiteDesired
from sites.models.facts import (
    ComponentSet,
    ComponentSpan,
    Fact,
    ImageSize,
    Outage,
    PollerBeat,
    SiteState,
    StateInterval,
)
from sites.models.identity import JoinToken, SiteCertificate, SiteIdentity
from sites.models.journal import JournalCursor, JournalEntry, JournalEnvelope
from sites.models.sites import (
    SHARDS,
    SLUG,
    TEXT,
    Acknowledgement,
    PollerShard,
    PollSchedule,
    Provider,
    Site,
    SiteTenure,
)

__all__ = [
    "SHARDS",
    "SLUG",
    "TEXT",
    "Acknowledgement",
    "Blob",
    "ComponentSet",
    "ComponentSpan",
    "DesiredDocument",
    "DesiredReceipt",
    "Fact",
    "ImageSize",
    "JoinToken",
    "JournalCursor",
    "JournalEntry",
    "JournalEnvelope",
    "Outage",
    "PollSchedule",
    "PollerBeat",
    "PollerShard",
    "Provider",
    "Site",
    "SiteCertificate",
    "SiteDesired",
    "SiteIdentity",
    "SiteState",
    "SiteTenure",
    "StateInterval",
]
