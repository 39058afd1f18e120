"""The running system, for flows."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sites.models import Provider, Site
from tests.conftest import empty_database
from tests.flows.running import Running, read_on
from tests.flows.system import System, all_up, wait_for


@pytest.fixture
def system(database: None, tmp_path: Path) -> Iterator[System]:
    """A system that has been started, without sites; two pollers' shards can be had with `system_of(2)`."""
    with ExitStack() as stack:
        running = System(stack, tmp_path)
        running.start()
        yield running


@pytest.fixture
def two_pollers(database: None, tmp_path: Path) -> Iterator[System]:
    """The same with two pollers."""
    with ExitStack() as stack:
        running = System(stack, tmp_path, pollers=2)
        running.start()
        yield running


@pytest.fixture
def start_running(
    system: System, make_provider: Callable[..., Provider], tmp_path: Path
) -> Iterator[Callable[..., list[Running]]]:
    """Factory of sites with a real agent each, its clock so many seconds behind; all up, their journals read."""
    with ExitStack() as stack:

        def make(*lags_s: int) -> list[Running]:
            sites = system.make_sites(len(lags_s), provider_id=make_provider().pk)
            made = [
                Running(system, site, tmp_path / f"site-{site.pk}", lag_s=lag_s)
                for site, lag_s in zip(sites, lags_s, strict=True)
            ]
            for one in made:
                stack.callback(one.agent.close)
            wait_for(lambda: all_up(sites), what="up")
            read_on(*made)
            return made

        yield make


@pytest.fixture(scope="module")
def shared_system(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, list[Site]]]:
    """One system with eight sites for all tests of a module that leave it as they found it."""
    with django_db_blocker.unblock(), ExitStack() as stack:
        stack.callback(empty_database)
        running = System(stack, tmp_path_factory.mktemp("system"))
        running.start()
        provider = Provider.objects.using("owner").create(slug="flows", name="Flows")
        yield running, running.start_sites(8, provider_id=provider.pk)
