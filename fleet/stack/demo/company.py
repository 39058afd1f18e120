"""The demo company: its regions, the providers that run its sites, and the people who sign in."""

from dataclasses import dataclass

COMPANY = "Merrow & Vale"
HOST_SITE_UUID = "0d0b8f1e-2f55-5c0e-9a2b-6b7d1f6c2a01"  # the site that is this very machine
MAIL_DOMAIN = "merrow-vale.example"


@dataclass(frozen=True)
class DemoProvider:
    """A managed-service provider."""

    slug: str
    name: str
    contact: str


@dataclass(frozen=True)
class DemoRegion:
    """A region: its share of every 60 sites, its countries by weight, and its providers by weight."""

    name: str
    share: int
    countries: tuple[tuple[str, int], ...]
    providers: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class DemoUser:
    """Someone who signs in. `provider` is a slug for providers' people, else None."""

    name: str
    role: str
    provider: str | None = None


PROVIDERS = (
    DemoProvider("nordgrid", "Nordgrid", "Duty desk, all hours: noc@nordgrid.example"),
    DemoProvider("alpenrack", "Alpenrack", "Leitstand, all hours: leitstand@alpenrack.example"),
    DemoProvider("polder-edge", "Polder Edge", "Service desk, 06:00 to 22:00 CET: desk@polder-edge.example"),
    DemoProvider("meseta-cloud", "Meseta Cloud", "Centro de operaciones, all hours: noc@meseta-cloud.example"),
    DemoProvider("lakehead-systems", "Lakehead Systems", "Operations, all hours: ops@lakehead-systems.example"),
    DemoProvider("straits-edge", "Straits Edge", "Network operations, all hours: noc@straits-edge.example"),
)

REGIONS = (
    DemoRegion("DACH", 12, (("DE", 8), ("AT", 2), ("CH", 2)), (("alpenrack", 5), ("polder-edge", 1))),
    DemoRegion("Nordics", 9, (("SE", 3), ("NO", 2), ("DK", 2), ("FI", 2)), (("nordgrid", 1),)),
    DemoRegion("UK & Ireland", 9, (("GB", 7), ("IE", 2)), (("polder-edge", 2), ("nordgrid", 1))),
    DemoRegion("Benelux", 7, (("NL", 4), ("BE", 2), ("LU", 1)), (("polder-edge", 1),)),
    DemoRegion("Iberia", 7, (("ES", 5), ("PT", 2)), (("meseta-cloud", 1),)),
    DemoRegion("North America", 10, (("US", 7), ("CA", 3)), (("lakehead-systems", 4), ("meseta-cloud", 1))),
    DemoRegion("APAC", 6, (("JP", 2), ("AU", 2), ("SG", 1), ("KR", 1)), (("straits-edge", 1),)),
)

USERS = (
    DemoUser("admin", "admin"),
    DemoUser("noc", "operator"),
    DemoUser("manager", "manager"),
    *(DemoUser(f"provider{n}", "provider_operator", provider.slug) for n, provider in enumerate(PROVIDERS, 1)),
)
