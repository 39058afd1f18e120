"""What sites would have to fetch, and whether they have room for it, from what sites say their images take."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from agent.protocol import Component
from fleet.kit.tenancy import scope
from fleet.rollouts.plan import read_plan
from fleet.rollouts.preview import Preview, preview
from fleet.rollouts.selectors.downloads import download_bytes
from fleet.rollouts.selectors.drafting import draft, preview_of
from fleet.rollouts.selectors.planning import plan_sites
from fleet.standards.models import Standard
from sites.models import ImageSize, Site
from tests.conftest import TEST
from tests.fleet.rollouts.played import NEW, NEW_POS, Played
from tests.fleet.standards.factories import IMAGE, OTHER_DIGEST, make_standard, report
from tests.sites.builders import KERNEL, POS

pytestmark = pytest.mark.usefixtures("database")
MIB = 1 << 20
ARM = "sha256:" + "c" * 64


def to_fetch(standard: Standard, *sites: Site) -> list[int | None]:
    with scope(TEST):
        found = download_bytes(standard, [site.pk for site in sites])
    return [found[site.pk] for site in sites]


def learn(site: Site, size: int, part: Component = NEW_POS) -> None:
    """The site says that it runs this image, and what that takes."""
    report(site, KERNEL, part, image_bytes={str(part.digest): size})


def previewed(it: Played) -> Preview:
    with scope(TEST):
        now = timezone.now()
        return preview(read_plan(it.now().plan), plan_sites([site.pk for site in it.sites], it.standard, now), now)


def test_an_image_that_no_site_has_is_of_unknown_size_and_one_that_is_there_costs_nothing(make_site: Any):
    standard, site, other = make_standard(content=NEW), make_site(), make_site()
    report(site, KERNEL, POS)
    report(other, KERNEL, NEW_POS)  # without a word of its size, as agents of old do
    assert to_fetch(standard, site, other) == [None, 0]


def test_a_size_is_learned_from_the_first_site_that_runs_it(make_site: Any):
    standard, site, canary = make_standard(content=NEW), make_site(), make_site()
    report(site, KERNEL, POS)
    learn(canary, 300 * MIB)
    assert to_fetch(standard, site, canary) == [300 * MIB, 0]


def test_what_sites_of_the_same_provider_say_comes_first_and_else_the_largest(make_site: Any, make_provider: Any):
    standard = make_standard(content=NEW)
    one, two, three = (make_provider(slug=name) for name in ("one", "two", "three"))
    learn(make_site(provider=one), 100)
    learn(make_site(provider=two), 900)
    sites = [make_site(provider=provider) for provider in (one, two, three)]
    for site in sites:
        report(site, KERNEL, POS)
    assert to_fetch(standard, *sites) == [100, 900, 900]


def test_a_size_that_changes_is_the_newer_and_sizes_of_what_a_site_does_not_run_are_not_believed(make_site: Any):
    site = make_site()
    learn(site, 1)
    report(site, KERNEL, POS, image_bytes={str(POS.digest): 5, OTHER_DIGEST: 10**15})
    learn(site, 2)
    with scope(TEST):
        assert dict(ImageSize.objects.values_list("digest", "bytes")) == {OTHER_DIGEST: 2, POS.digest: 5}


def test_a_site_fetches_the_image_of_its_own_architecture(make_site: Any):
    images = {"amd64": IMAGE, "arm64": f"registry.example/pos@{ARM}"}
    standard = make_standard(content={"workloads": [{"name": "pos", "images": images}], "os": None})
    sites = [make_site(labels=labels) for labels in ({"arch": "amd64"}, {"arch": "arm64"}, {})]
    for site in sites:
        report(site, KERNEL, POS)
    learn(make_site(), 77, Component("workload", "pos", "4.2.1", ARM))
    assert to_fetch(standard, *sites) == [0, 77, None]


def test_two_workloads_of_one_image_fetch_it_once(make_site: Any):
    twice = [{"name": name, "image": f"registry.example/pos@{OTHER_DIGEST}"} for name in ("pos", "till")]
    standard, site = make_standard(content={"workloads": twice, "os": None}), make_site()
    report(site, KERNEL, POS)
    learn(make_site(), 50)
    assert to_fetch(standard, site) == [50]


def test_the_preview_says_bytes_who_lacks_room_and_of_whom_it_is_not_known(
    make_site: Callable[..., Site], make_person: Any
):
    it = Played(make_site, make_person, (2, 1))
    assert [(wave.bytes_total, wave.bytes_unknown) for wave in previewed(it).waves] == [(0, 2), (0, 1)]
    learn(make_site(), 400 << 30)  # more than the 300 GiB that are free
    found = previewed(it)
    assert [(wave.bytes_total, wave.bytes_unknown) for wave in found.waves] == [(800 << 30, 0), (400 << 30, 0)]
    assert [wave.lack_space for wave in found.waves] == [(it.sites[0].pk, it.sites[1].pk), (it.sites[2].pk,)]
    assert any("too little disk space" in note.sentence for note in found.notes)


def test_an_image_that_nobody_has_run_is_said_in_the_preview(make_site: Callable[..., Site], make_person: Any):
    it = Played(make_site, make_person, (1,))
    words = "No site has run registry.example/pos@sha256:bbbbbbbbbbbb… yet"
    actor, _ = it.author
    value = {"name": "again", "standard": it.standard.name, "select": {"everything": True}}

    def warnings() -> list[str]:
        with scope(actor):
            found = preview_of(draft(actor, value, timezone.now(), but_rollout=it.rollout.pk), timezone.now())
        assert found is not None
        return [note.sentence for note in found.notes if note.sentence.startswith(words)]

    assert len(warnings()) == 1
    report(make_site(), KERNEL, NEW_POS)
    assert warnings() == []
