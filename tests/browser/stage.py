"""The whole system for a browser: web, workers and simulated sites of two providers, as real processes."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from django.conf import global_settings
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from fleet.people.services import make_user
from fleet.stack import processes
from fleet.stack.options import External, Options
from sites.models import Provider, Site
from sites.services.sites import create_sites
from tests.conftest import PASSWORD, TEST, empty_database, everything
from tests.flows.system import System, all_up, free_port, shown, wait_for

# Name, latitude, longitude, time zone: far enough apart that none hides in a cluster when all are in view.
NORTH = (
    ("Oslo Depot", 59.9, 10.7, "Europe/Oslo"),
    ("Helsinki Shop", 60.2, 24.9, "Europe/Helsinki"),
    ("Tromsø Depot", 69.6, 18.9, "Europe/Oslo"),
    ("Reykjavík Shop", 64.1, -21.9, "Atlantic/Reykjavik"),
)
SOUTH = (
    ("Madrid Plant", 40.4, -3.7, "Europe/Madrid"),
    ("Athens Shop", 38.0, 23.7, "Europe/Athens"),
    ("Łódź Plant", 51.8, 19.5, "Europe/Warsaw"),
)


def slow_passwords() -> override_settings:
    """Production's hashers: the web process, unlike the tests', knows no others."""
    return override_settings(PASSWORD_HASHERS=global_settings.PASSWORD_HASHERS)


def _leave_nothing() -> None:
    """Empty the database, and close this thread's connections to it."""
    empty_database()
    for alias in ("default", "owner"):
        connections[alias].close()


class Stage(System):
    """A System that also serves pages at `url`, to the people `noc`, `admin`, `manager`, `north`, `south`."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        # Playwright drives its browser from an event loop in the tests' thread; Django's database is asked in another.
        self._clerk = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(self.ask, _leave_nothing)
        super().__init__(stack, folder)
        self.environ["ARCHIPELAGO_WEBHOOK_HTTP_LOOPBACK"] = "1"
        self.web_port = free_port()
        self.url = f"http://127.0.0.1:{self.web_port}"
        self.sites: dict[str, Site] = {}

    def ask(self, function: Callable[..., Any], *values: Any) -> Any:
        """Run a function that uses the database, and return what it returns."""
        return self._clerk.submit(function, *values).result()

    def settle(self) -> None:
        """Heal all sites and wait until they are shown as up."""
        made = list(self.sites.values())
        self.heal(*made)
        wait_for(lambda: self.ask(all_up, made), what="all sites to be up again")

    def wait_for_state(self, name: str, state: str) -> None:
        """Wait until a site is shown so."""
        wait_for(lambda: self.ask(shown, [self.sites[name]]) == [state], what=f"{name} to be {state}")

    def open(self) -> None:
        """Start everything, and wait until all sites are up."""
        call_command("collectstatic", interactive=False, verbosity=0)
        self.start()
        self.run(processes.web(self._options(), self.environ))
        providers = {
            slug: Provider.objects.using("owner").create(slug=slug, name=slug.title(), contact=f"noc@{slug}.example")
            for slug in ("north", "south")
        }
        made = create_sites(actor=TEST, rights=everything(), rows=self._rows(providers))
        self.simulate(made)
        self.sites = {site.name: site for site in made}
        with slow_passwords():
            self._people(providers)
        wait_for(self._listens, what="the web")
        wait_for(lambda: all_up(made), what="all sites to be up")

    def _people(self, providers: dict[str, Provider]) -> None:
        make_user(actor=TEST, username="noc", password=PASSWORD, role="operator")
        make_user(actor=TEST, username="admin", password=PASSWORD, role="admin")
        make_user(actor=TEST, username="manager", password=PASSWORD, role="manager")
        for slug, provider in providers.items():
            make_user(actor=TEST, username=slug, password=PASSWORD, role="provider_operator", provider_id=provider.pk)

    def _listens(self) -> bool:
        try:
            urlopen(f"{self.url}/healthz")
        except OSError:
            return False
        return True

    def _options(self) -> Options:
        return Options("127.0.0.1", self.web_port, 10, 1, None, None, External(None, None, None, None))

    def _rows(self, providers: dict[str, Provider]) -> list[dict[str, object]]:
        places = [("north", "North", *row) for row in NORTH] + [("south", "South", *row) for row in SOUTH]
        return [
            {
                "slug": f"{provider}-{number}",
                "name": name,
                "place": name.split()[0],
                "lat": lat,
                "lon": lon,
                "time_zone": zone,
                "region": region,
                "provider_id": providers[provider].pk,
                "address": f"127.64.9.{number + 1}:{self.port}",
                "poll_interval_s": 1,
                "life": "active",
            }
            for number, (provider, region, name, lat, lon, zone) in enumerate(places)
        ]

    def freeze_web(self) -> None:
        """Stop the web process where it stands: connections stay open, nothing answers."""
        self._signal("web", signal.SIGSTOP)

    def thaw_web(self) -> None:
        """Let it go on."""
        self._signal("web", signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        _, child = self._children[name]
        child.send_signal(number)
