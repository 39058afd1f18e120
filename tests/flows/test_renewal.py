"""Renewal from the centre's side: a hand-over moves a site to the new provider's CA while it is polled on."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from agent.protocol.identity import provider_domain
from sites.models import Provider, Site
from sites.services.sites import update_site
from tests.conftest import TEST, everything
from tests.flows.system import System, all_up, query, wait_for

Make = Callable[..., Provider]


def names(sites: list[Site]) -> list[str]:
    found = dict(query("SELECT id, tls_name FROM edge_sites_site"))
    return [found[site.pk] for site in sites]


@pytest.mark.parametrize("dial_out", [False, True], ids=["dialled", "linked"])
def test_a_hand_over_gives_the_site_the_certificate_of_its_new_provider(
    system: System, make_provider: Make, dial_out: bool
) -> None:
    before, after = make_provider(), make_provider()
    sites = system.start_sites(3, provider_id=before.pk, dial_out=range(3) if dial_out else ())
    wait_for(lambda: all_up(sites), what="three sites up")
    handed, others = sites[:1], sites[1:]
    stayed = names(others)

    update_site(actor=TEST, rights=everything(), site=handed[0], values={"provider_id": after.pk})
    domain = provider_domain("archipelago.internal", after.pk)
    wait_for(lambda: names(handed)[0].endswith(domain), what="the new provider's name")
    wait_for(
        lambda: (
            query(
                "SELECT count(*) FROM edge_sites_sitestate WHERE site_id = %s AND last_good_at > now() - interval '2 s'"
                " AND reachability = 'reachable' AND misses = 0",
                handed[0].pk,
            )
            == [(1,)]
        ),
        what="polls under the new name",
    )
    assert names(others) == stayed
    routes = query(
        "SELECT provider_id, route FROM edge_sites_sitecertificate WHERE site_id = %s ORDER BY id", handed[0].pk
    )
    assert routes[0] == (before.pk, "enrol")
    assert routes[-1] == (after.pk, "pushed")
    assert all_up(sites)


def test_a_site_that_has_not_renewed_itself_is_renewed_and_a_frozen_one_is_not(
    system: System, make_provider: Make
) -> None:
    sites = system.start_sites(3, provider_id=make_provider().pk)
    wait_for(lambda: all_up(sites), what="three sites up")
    due, frozen, early = sites
    past = timezone.now() - timedelta(seconds=1)
    Site.objects.using("owner").filter(pk__in=[due.pk, frozen.pk]).update(tls_push_at=past)
    Site.objects.using("owner").filter(pk=frozen.pk).update(identity_frozen_at=past, identity_frozen_reason="test")

    def pushed() -> list[tuple[int]]:
        return query("SELECT site_id FROM edge_sites_sitecertificate WHERE route = 'pushed' ORDER BY id")

    wait_for(pushed, what="a certificate that was pushed")
    wait_for(
        lambda: (
            query("SELECT tls_push_at > now() + interval '5 days' FROM edge_sites_site WHERE id = %s", due.pk)
            == [(True,)]
        ),
        what="the next renewal",
    )
    Site.objects.using("owner").filter(pk=frozen.pk).update(identity_frozen_at=None)
    wait_for(lambda: pushed() == [(due.pk,), (frozen.pk,)], what="the renewal after the thaw")
    assert early.pk not in {pk for (pk,) in pushed()}
    assert all_up(sites)
