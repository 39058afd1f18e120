"""`make shots`: every screen of the demo company, in both themes, on a desk and on a phone, into ./shots/."""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from playwright.sync_api import Browser, Page

from agent.identity import Keys
from fleet.kit.tenancy import scope
from fleet.people.models import User
from fleet.people.selectors import access_of
from fleet.stack import processes
from fleet.stack.demo.fleet import control_socket, fleet_file
from fleet.stack.demo.seed import seed
from fleet.stack.state import ROOT, State
from sites.models import Site
from slas.models import Contract, Incident
from slas.services.disputes import file_dispute
from slas.services.report_files import make_files
from slas.services.report_making import make_wanted
from slas.services.reports import ask_for_report
from slas.services.upkeep import decide_window, request_window
from tests.browser.conftest import SignIn
from tests.browser.stage import Stage, slow_passwords
from tests.conftest import PASSWORD
from tests.flows.system import query, wait_for
from tests.sites.identities import freeze_row, keys
from tests.sites.told import WORKLOADS, document, receipt, standing

FOLDER = ROOT / "shots"
SITES = 60
SIZES = ((1440, 900), (390, 844))
SITE = "zaragoza-shop-1"
PROVIDER = "provider4"
SCREENS = {
    "overview": "/",
    "overview-panel": f"/?site={SITE}",
    "overview-filtered": "/?region=DACH",
    "sites": "/sites/",
    "sites-trouble": "/sites/?state=down,degraded,unreachable&sort=state",
    "site": f"/sites/{SITE}/",
    "site-timeline": f"/sites/{SITE}/timeline/?before=1",
    "site-journal": f"/sites/{SITE}/journal/",
    "site-edit": f"/sites/{SITE}/edit/",
    "site-desired": f"/sites/{SITE}/desired/",
    "site-desired-apply": f"/sites/{SITE}/desired/apply/",
    "site-desired-json": f"/sites/{SITE}/desired/apply/?as=json",
    "site-new": "/sites/new/",
    "site-import": "/sites/import/",
    "waiting": "/sites/waiting/",
    "compliance": "/compliance/?span=24h",
    "compliance-unknown": "/compliance/?state=unknown&provider=meseta-cloud",
    "standards": "/standards/",
    "standard": "/standards/shops-2026.11-r3/",
    "standard-new": "/standards/new/",
    "standard-yaml": "/standards/new/?from=shops-2026.11-r2&as=yaml",
    "standard-diff": "/standards/diff/?before=shops-2026.11-r2&after=shops-2026.11-r3",
    "standard-give": "/standards/shops-2026.11-r3/give/?ring=stable",
    "rollout-plan": "/rollouts/new/?everything=1&to=shops-2026.11-r3",
    "rollout-plan-empty": "/rollouts/new/",
    "rollout-plan-json": "/rollouts/new/?everything=1&to=shops-2026.11-r3&as=json",
    "holds": "/rollouts/holds/?ended=1",
    "hold-new": f"/rollouts/holds/new/?sites={SITE}",
    "calendars": "/rollouts/calendars/?provider=meseta-cloud",
    "calendar-edit": "/rollouts/calendars/meseta-cloud/edit/",
    "rings": "/rings/",
    "ring": "/rings/stable/",
    "webhooks": "/webhooks/",
    "webhook-new": "/webhooks/new/",
    "rollouts": "/rollouts/",
    "rollout": "/rollouts/1/",
    "rollout-freeze": "/rollouts/1/do/freeze/",
    "rollout-roll-back": "/rollouts/1/do/roll_back/",
    "site-rollouts": f"/sites/{SITE}/rollouts/",
    "site-hold": f"/sites/{SITE}/hold/",
    "slas": "/slas/",
    "sla-contracts": "/slas/contracts/",
    "sla-contract-new": "/slas/contracts/new/",
    "sla-contract-json": "/slas/contracts/new/?as=json",
    "sla-maintenance": "/slas/maintenance/",
    "sla-maintenance-new": f"/slas/maintenance/new/?sites={SITE}",
    "sla-outages": "/slas/outages/",
    "sla-outage": "/slas/outages/1/",
    "sla-disputes": "/slas/disputes/?state=all",
    "sla-contract": "/slas/contracts/meseta-cloud/",
    "sla-contract-edit": "/slas/contracts/meseta-cloud/edit/",
    "sla-contract-budget": "/slas/contracts/meseta-cloud/budget/",
    "sla-window": "/slas/maintenance/1/",
    "sla-dispute": "/slas/disputes/1/",
    "sla-report": "/slas/reports/1/",
    "sla-report-site": f"/slas/reports/1/sites/{SITE}/",
    "sla-reports": "/slas/reports/",
    "sla-reports-beside": "/slas/reports/compare/",
    "sla-reports-group": "/slas/reports/group/?region=DACH",
    "sla-reports-provider": "/slas/reports/providers/meseta-cloud/",
    "sla-reports-mail": "/slas/reports/schedules/",
    "sla-reports-mail-new": "/slas/reports/schedules/new/?provider=meseta-cloud",
    "sla-trends": "/slas/trends/",
    "site-budget": f"/slas/sites/{SITE}/budget/",
    "site-outages": f"/sites/{SITE}/outages/",
    "providers": "/providers/",
    "provider": "/providers/meseta-cloud/",
    "wall": "/wall/",
    "search": "/search/?q=shop",
    "api": "/api/docs",
    "not-found": "/nothing/",
    "sign-out": "/accounts/logout/",
}
FULL_PAGE = {
    "site",
    "site-timeline",
    "site-journal",
    "site-desired",
    "site-desired-apply",
    "site-new",
    "site-import",
    "compliance",
    "standard",
    "standard-new",
    "standard-give",
    "rollout-plan",
    "rollout-plan-empty",
    "calendars",
    "ring",
    "rollout",
    "slas",
    "sla-contract",
    "sla-contract-new",
    "sla-contract-edit",
    "sla-outage",
    "sla-dispute",
    "sla-window",
    "sla-report",
    "sla-report-site",
}
# As the provider of SITE sees its own side.
OF_PROVIDER = {
    "provider-overview": "/",
    "provider-slas": "/slas/",
    "provider-contract": "/slas/contracts/meseta-cloud/",
    "provider-report": "/slas/reports/1/",
    "provider-dispute": "/slas/disputes/1/",
    "provider-maintenance": "/slas/maintenance/",
}

# A day of figures for one site, with half an hour in which nobody measured.
_HISTORY = """
INSERT INTO sample (site_id, provider_id, at, late_ms, rtt_ms, cpu_count, cpu_ratio, load1, mem_bytes, mem_total_bytes,
    disk_bytes, disk_total_bytes, net_rx_bytes_total, net_tx_bytes_total, temp_celsius, power_watts)
SELECT s.id, s.provider_id, now() - make_interval(mins => m), 2, 4 + (random() * 5)::int, 8,
    0.32 + 0.2 * sin(m / 220.0) + random() * 0.06, 1.4, (6.1 + sin(m / 300.0) + random() * 0.2) * 1073741824,
    17179869184, 171798691840 - m * 1200000::bigint, 257698037760, (1500 - m) * 9000000::bigint,
    (1500 - m) * 2100000::bigint, 41 + 4 * sin(m / 220.0) + random(), 118 + 22 * sin(m / 220.0) + random() * 4
FROM edge_sites_site s, generate_series(4, 1440) AS m
WHERE s.slug = %s AND NOT m BETWEEN 270 AND 300
"""

_INTERVAL = """
INSERT INTO edge_sites_stateinterval (site_id, provider_id, axis, state, valid_from, valid_to, recorded_at, closed_at,
    source, evidence)
SELECT id, provider_id, %s, %s, now() - make_interval(mins => %s), now() - make_interval(mins => %s),
    now() - make_interval(mins => %s), now() - make_interval(mins => %s), 'poll', '{"poll": 48213}'
FROM edge_sites_site WHERE slug = %s
"""

# A day of compliance: a standard that most sites have reached within half of it.
_COMPLIED = """
INSERT INTO standards_complianceinterval (site_id, provider_id, standard_id, state, valid_from, valid_to, recorded_at,
    closed_at, source, evidence)
SELECT c.site_id, c.provider_id, c.standard_id, w.state, now() - make_interval(mins => w.begin),
    LEAST(c.since, now() - make_interval(mins => w.finish)), now(), now(), 'inference', '{}'
FROM (SELECT *, 700 - mod(site_id * 97, 640) AS reached FROM standards_sitecompliance WHERE standard_id IS NOT NULL) c,
    LATERAL (VALUES ('drift', 1380, c.reached), ('conform', c.reached, 0)) AS w(state, begin, finish)
"""


class Demo(Stage):
    """The Stage with the demo company on it."""

    def open(self) -> None:
        """Start everything, wait until all sites answer, and break some."""
        call_command("collectstatic", interactive=False, verbosity=0)
        state = State(base=self.folder, runtime=self.folder, service_user=None)
        (self.folder / "demo").mkdir()
        self.start()
        self.start_worker("worker")
        self.run(processes.web(self._options(), self.environ))
        with slow_passwords():
            seed(state, number=SITES, port=self.port - 1, password=PASSWORD)
        self.control = control_socket(state, 0)
        program = processes.simulator(
            self.environ,
            number=0,
            fleet_file=fleet_file(state, 0),
            folder=self.folder / "demo" / "sites",
            port=self.port,
            control=self.control,
        )
        self.run(program)
        wait_for(lambda: query("SELECT count(*) FROM edge_sites_sitestate WHERE shown = 'up'")[0][0] >= SITES, 90)
        self._trouble()
        self._agree()

    def _agree(self) -> None:
        """What two sides have to do with each other: maintenance, a dispute, a month's report."""
        (who, rights), (boss, theirs) = (access_of(User.objects.get(username=name)) for name in (PROVIDER, "manager"))
        begins = (datetime.now(UTC) + timedelta(days=5)).replace(hour=2, minute=0, second=0, microsecond=0)
        for title, day in (("New firmware for the routers", 0), ("A second power supply", 4)):
            window = request_window(
                actor=who,
                rights=rights,
                sites=[SITE],
                title=title,
                begins=begins + timedelta(days=day),
                ends=begins + timedelta(days=day, hours=3),
            )
            if day == 0:
                decide_window(actor=boss, rights=theirs, window=window, approve=True)
        wait_for(lambda: query("SELECT count(*) FROM slas_incident")[0][0] >= 3, 60)
        number = query(
            "SELECT i.id FROM slas_incident i JOIN edge_sites_site s ON s.id = i.site_id WHERE s.slug = %s", SITE
        )[0][0]
        with scope(who):
            outage = Incident.objects.get(pk=number)
        text = "The site's own electrician had the power off for half an hour; his protocol follows."
        file_dispute(actor=who, rights=rights, incident=outage, cause="third_party", text=text)
        with scope(boss):
            contract = Contract.objects.get(slug="meseta-cloud")
        ask_for_report(actor=boss, rights=theirs, contract=contract, period=f"{datetime.now(UTC):%Y-%m}")
        make_wanted()
        make_files()

    def _trouble(self) -> None:
        sites = list(Site.objects.using("owner").exclude(slug=SITE).order_by("slug"))
        dice = random.Random(7)
        for mode, count in (("down", 1), ("degraded", 2), ("dark", 1)):
            self.fail(mode, *dice.sample(sites, count))
        for site in dice.sample(sites, 2):
            keys(site, fingerprint=Keys.make().fingerprint, host=f"{site.slug}.edge.example")
        freeze_row(dice.choice(sites), "a join string was used with other keys (from 198.51.100.7)")
        _told(Site.objects.using("owner").get(slug=SITE))
        _run(_HISTORY, SITE)
        for site in [*dice.sample(sites, 24), Site.objects.using("owner").get(slug=SITE)]:
            begin, kind = dice.randrange(60, 1430), dice.choice(("down", "degraded", "degraded", "unreachable"))
            axis = "reachability" if kind == "unreachable" else "availability"
            end = max(1, begin - dice.randrange(4, 50))
            _run(_INTERVAL, axis, kind, begin, end, begin, end, site.slug)
        _run(_INTERVAL, "availability", "down", 300, 270, 300, 270, SITE)
        wait_for(lambda: query("SELECT count(*) FROM standards_sitecompliance WHERE state = 'drift'")[0][0] >= 3, 60)
        _run(_COMPLIED)
        wait_for(
            lambda: query("SELECT count(*) FROM edge_sites_sitestate WHERE reachability = 'unreachable'")[0][0] >= 1,
            120,
        )


def _told(site: Site) -> None:
    """Three versions: applied, applied, undone."""
    document(site, 1, reason="first tills", made_by="admin")
    receipt(site, 1)
    machine = {"packages": {"curl": "8.5.0-2ubuntu10.6"}, "kernel": "6.8.0-51-generic", "reboot": "if_required"}
    document(site, 2, {"os": machine}, reason="security fixes of November", made_by="admin")
    receipt(site, 2, changed=["curl", "kernel"])
    document(site, 3, {"os": machine, "workloads": [{**WORKLOADS[0], "version": "4.2.1"}]}, reason="tills 4.2.1")
    why = "pos: its health check never passed"
    receipt(site, 3, state="rolled_back", detail=why)
    standing(site, answer="accepted", reported_epoch=1, reported_version=3, reported_state="rolled_back")
    standing(site, reported_detail=why)


def _run(statement: str, *values: Any) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute(statement, values)


@pytest.fixture(scope="package")
def stage(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The demo in place of the tests' stage."""
    with django_db_blocker.unblock(), ExitStack() as stack:
        running = Demo(stack, tmp_path_factory.mktemp("stage"))
        running.ask(running.open)
        yield running


def _settle(page: Page, name: str) -> None:
    if name.startswith("overview") or name == "wall":
        page.wait_for_selector("[data-map][data-drawn], [data-wall]", timeout=30_000)
        page.wait_for_timeout(2500)
    page.wait_for_timeout(900)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_shots(sign_in: SignIn, chromium: Browser, stage: Stage, theme: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    for width, height in SIZES:
        page = sign_in("admin", theme=theme, width=width, height=height)
        for name, path in SCREENS.items():
            page.goto(path)
            _settle(page, name)
            page.screenshot(path=FOLDER / f"{name}-{theme}-{width}.png", full_page=name in FULL_PAGE)
        page.goto("/sites/")
        page.keyboard.press("/")
        page.keyboard.type("ber")
        page.wait_for_timeout(900)
        page.screenshot(path=FOLDER / f"palette-{theme}-{width}.png")
        page.context.clear_cookies(name="__Host-session")
        page.goto("/accounts/login/")
        page.screenshot(path=FOLDER / f"sign-in-{theme}-{width}.png")
        page.context.close()
        page = sign_in(PROVIDER, theme=theme, width=width, height=height)
        for name, path in OF_PROVIDER.items():
            page.goto(path)
            _settle(page, name)
            page.screenshot(path=FOLDER / f"{name}-{theme}-{width}.png", full_page=True)
        page.context.close()
