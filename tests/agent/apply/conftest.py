from pathlib import Path
from typing import Any

import pytest

from agent.identity import Identity
from tests.agent.apply.documents import Bench, trusting
from tests.agent.factories import SITE
from tests.pki import Fleet


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture(scope="session")
def identity(fleet: Fleet) -> Identity:
    """The enrolled site, which was given the certificate of the key that signs documents."""
    return trusting(fleet, fleet.site(SITE))


@pytest.fixture
def open_bench(tmp_path: Path, fleet: Fleet, identity: Identity) -> Any:
    """Opens the site of this test, as often as it is called."""

    def open_(**options: Any) -> Bench:
        return Bench(options.pop("folder", tmp_path), fleet=fleet, identity=identity, **options)

    return open_


@pytest.fixture
def bench(open_bench: Any) -> Bench:
    bench: Bench = open_bench()
    return bench
