"""The demo in the database: once, twice, larger, smaller, and with what people changed left alone."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.protocol.identity import Join, read_join
from fleet.kit import signing
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import job, scope
from fleet.people.models import Membership, User
from fleet.signer.keys import KeyStore
from fleet.signer.ledger import Ledger
from fleet.signer.operations import Limits, Signer, TokenBucket
from fleet.signer.server import SignerServer
from fleet.stack.demo.fleet import agent_folder, fleet_file
from fleet.stack.demo.seed import seed
from fleet.stack.processes import JOIN_FILE
from fleet.stack.state import State
from sites.models import JoinToken, PollSchedule, Provider, Site, SiteState, SiteTenure, StateInterval
from sites.selectors.desired import documents_to_sign
from sites.selectors.identity import signable
from sites.services.joining import token_mac

TEST = job("test")


@dataclass
class Demo:
    state: State

    def seed(self, number: int, *, port: int = 9100, password: str = "first password") -> dict[str, int]:
        return seed(self.state, number=number, port=port, password=password)


@pytest.fixture
def demo(database: None, state: State, settings: Any) -> Iterator[Demo]:
    """The demo, with a signer that tells its roots; it certifies nothing, since no site calls in here."""
    settings.SIGNER_SOCKET = state.runtime / "signer.sock"
    store = KeyStore(state.base / "keys", settings.FLEET_NAME, lambda: datetime.now(UTC))
    limits = Limits(TokenBucket(1, 1), TokenBucket(1, 1), TokenBucket(1, 1))
    ledger = Ledger(state.base / "keys")
    signer = Signer(store, settings.FLEET_NAME, signable, limits, ledger=ledger, read_documents=documents_to_sign)
    server = SignerServer(settings.SIGNER_SOCKET, signer)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield Demo(state)
    server.shutdown()
    server.close()
    thread.join()
    ledger.close()
    store.close()


def joins(demo: Demo) -> dict[str, Join]:
    """By site, the join strings that the simulators are handed."""
    entries = json.loads(fleet_file(demo.state, 0).read_text())["sites"]
    return {entry["site"]: read_join(entry["join"]) for entry in entries if "join" in entry}


def test_sites_are_handed_join_strings_until_their_agents_have_kept_keys(demo: Demo) -> None:
    demo.seed(6)
    first = joins(demo)
    assert {site: str(join.site) for site, join in first.items()} == {site: site for site in first}
    assert len(first) == 6
    assert {join.root_sha256.hex() for join in first.values()} == {signing.roots().root_sha256}
    with scope(TEST):
        assert JoinToken.objects.filter(withdrawn_at=None, pre_authorised=True).count() == 7
    host = agent_folder(demo.state, None) / JOIN_FILE
    assert str(read_join(host.read_text()).site) not in first
    assert host.stat().st_mode & 0o077 == 0
    for secret in (join.secret for join in first.values()):
        with scope(TEST):
            assert JoinToken.objects.filter(mac=token_mac(secret), withdrawn_at=None).exists()


def test_it_makes_everything_a_site_needs(demo: Demo) -> None:
    assert demo.seed(60) == {"made": 61, "moved": 0, "retired": 0, "begun_again": 0}
    with scope(TEST):
        assert Provider.objects.count() == 6
        assert Site.objects.filter(life="active").count() == 61
        assert SiteTenure.objects.filter(valid_to=None).count() == 61
        assert SiteState.objects.filter(availability="unknown", reachability="").count() == 61
        assert StateInterval.objects.filter(axis="availability", state="unknown", valid_to=None).count() == 61
        assert {s.interval_s for s in PollSchedule.objects.all()} == {10}
        for site in Site.objects.select_related("provider"):
            site.full_clean()
        assert Site.objects.get(slug="hamburg-head-office").address == "127.64.0.1:9100"
        assert Site.objects.get(slug="berlin-shop-1").address == "127.64.1.1:9101"
        assert AuditEntry.objects.filter(action="demo.seed").count() == 1


def test_people_sign_in_with_their_roles(demo: Demo) -> None:
    demo.seed(6)
    roles = dict(Membership.objects.values_list("user__username", "role"))
    assert roles == {
        "admin": "admin",
        "noc": "operator",
        "manager": "manager",
        **{f"provider{n}": "provider_operator" for n in range(1, 7)},
    }
    assert User.objects.get(username="provider1").check_password("first password")
    with scope(TEST):
        nordgrid = Provider.objects.get(slug="nordgrid").pk
    assert Membership.objects.get(user__username="provider1").provider_id == nordgrid


def test_twice_changes_nothing(demo: Demo) -> None:
    demo.seed(60)
    assert demo.seed(60) == {"made": 0, "moved": 0, "retired": 0, "begun_again": 0}
    with scope(TEST):
        assert Site.objects.count() == SiteTenure.objects.count() == StateInterval.objects.count() == 61


def test_it_shrinks_and_grows_again(demo: Demo) -> None:
    demo.seed(600)
    with scope(TEST):
        assert set(PollSchedule.objects.exclude(site__slug="hamburg-head-office").values_list("interval_s")) == {(30,)}
    assert demo.seed(60) == {"made": 0, "moved": 60, "retired": 540, "begun_again": 0}
    with scope(TEST):
        assert PollSchedule.objects.filter(interval_s=10).count() == PollSchedule.objects.count() == 61
        assert StateInterval.objects.filter(valid_to=None).count() == 61
        assert Site.objects.filter(life="retired").count() == 540
    assert demo.seed(600) == {"made": 0, "moved": 60, "retired": 0, "begun_again": 540}
    with scope(TEST):
        assert StateInterval.objects.filter(valid_to=None).count() == 601
        assert SiteTenure.objects.count() == 601


def test_what_people_changed_stays(demo: Demo) -> None:
    demo.seed(60)
    with scope(TEST):
        Site.objects.filter(slug="berlin-shop-1").update(name="Berlin, Alexanderplatz")
        Site.objects.filter(slug="london-shop-1").update(life="retired")
        PollSchedule.objects.filter(site__slug="london-shop-1").delete()
        provider = Provider.objects.get(slug="nordgrid")
        own = Site.objects.create(
            slug="mine", name="Mine", lat=1, lon=1, provider=provider, address="127.64.99.1:9101", life="active"
        )
        User.objects.get(username="provider6").delete()
    admin = User.objects.get(username="admin")
    admin.set_password("their own password")
    admin.save()
    demo.seed(60, port=9200)
    with scope(TEST):
        assert Site.objects.get(slug="berlin-shop-1").name == "Berlin, Alexanderplatz"
        assert Site.objects.get(slug="berlin-shop-1").address == "127.64.1.1:9201"
        assert Site.objects.get(slug="london-shop-1").life == "retired"
        assert Site.objects.get(pk=own.pk).life == "active"
    assert User.objects.get(username="admin").check_password("their own password")
    assert User.objects.get(username="provider6").check_password("first password")
    demo.seed(60, password="second password")
    assert User.objects.get(username="admin").check_password("second password")
