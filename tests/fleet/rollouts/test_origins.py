"""Where sites came from: what a rollback leads back to is what they really ran, not what they said."""

from collections.abc import Callable
from typing import Any

import pytest

from agent.protocol import Component
from fleet.rollouts.services import control
from fleet.rollouts.services.origins import shows
from fleet.rollouts.services.ticking import tick
from tests.fleet.rollouts.played import NEW_POS, Played
from tests.fleet.standards.factories import OTHER_IMAGE, make_standard, report
from tests.sites.builders import KERNEL, POS
from tests.sites.told import WORKLOADS, document, receipt, standing

pytestmark = pytest.mark.usefixtures("database")
Play = Callable[..., Played]
BY_HAND = Component("workload", "pos", "by hand", "sha256:" + "f" * 64)


@pytest.fixture
def play(make_site: Any, make_person: Any) -> Play:
    """Factory of planned rollouts with waves of so many sites."""
    return lambda *waves, **plan: Played(make_site, make_person, waves, **plan)


def test_what_a_site_applied_and_shows_is_its_proven_origin(play: Play) -> None:
    it = play(1).run()
    assert (it.step(0).origin, it.step(0).origin_document.version) == ("proven", 1)


def test_a_site_that_was_changed_by_hand_goes_back_to_its_last_document_by_its_word(play: Play) -> None:
    it = play(1)
    report(it.sites[0], KERNEL, BY_HAND)
    it.run()
    assert (it.step(0).origin, it.step(0).origin_document.version) == ("last_good", 1)
    it.applied(0)
    tick()
    it.do(control.roll_back, reason="no")
    tick()
    it.applied(0, pos=POS)
    tick()
    assert it.states() == "rolled_back"


def test_a_site_that_says_applied_and_runs_the_old_image_goes_back_to_the_old_image(play: Play) -> None:
    it = play(1)
    site = it.sites[0]
    receipt(site, 1)
    lie = document(site, 2, {"workloads": [{"name": "pos", "image": OTHER_IMAGE, "version": "5.0.0"}]})
    receipt(site, 2)
    standing(site, reported_epoch=1, reported_version=2, reported_state="applied", document_id=lie.pk)
    it.run()
    assert (it.step(0).origin, it.step(0).origin_document.version) == ("proven", 1)
    it.applied(0)
    tick()
    it.do(control.roll_back, reason="no")
    tick()
    assert it.newest(0).content["workloads"] == WORKLOADS
    it.applied(0, pos=POS)
    tick()
    assert it.states() == "rolled_back"


def test_a_kernel_and_packages_that_the_origin_never_named_go_back_too(play: Play) -> None:
    it = play(1)
    new = Component("kernel", "linux", "6.1.0-22-amd64")
    curl = Component("os", "curl", "8.0-1")
    report(it.sites[0], KERNEL, POS, curl)
    os = {"packages": {"curl": "8.0-2"}, "kernel": new.version, "reboot": "if_required"}
    it.standard = make_standard("2026.11-r3", {**it.standard.content, "os": os})
    it.rollout = it.plan(it.rollout, standard=it.standard.name)
    it.run()
    it.says(0, state="applied")
    report(it.sites[0], new, NEW_POS, Component("os", "curl", "8.0-2"))
    tick()
    assert it.states() == "proven"
    it.do(control.roll_back, reason="no")
    tick()
    assert it.newest(0).content["workloads"] == WORKLOADS
    assert it.newest(0).content["os"] == {**os, "packages": {"curl": "8.0-1"}, "kernel": KERNEL.version}
    it.says(0, state="applied")
    report(it.sites[0], new, POS, curl)
    tick()
    assert it.states() == "rolling_back"
    report(it.sites[0], KERNEL, POS, curl)
    tick()
    assert it.states() == "rolled_back"


@pytest.mark.parametrize(
    ("content", "is_shown"),
    [
        ({"workloads": WORKLOADS, "os": None}, True),
        ({"workloads": [], "os": {"kernel": "6.1.0-21-amd64"}}, True),
        ({"workloads": [], "os": {"kernel": "6.1.0-22-amd64"}}, False),
        ({"workloads": [], "os": {"packages": {"curl": "8"}}}, False),
        ({"workloads": [{**WORKLOADS[0], "config_sha256": "sha256:" + "0" * 64}], "os": None}, False),
        ({"workloads": [{"name": "pos", "image": OTHER_IMAGE}], "os": None}, False),
    ],
)
def test_a_report_shows_a_document_or_not(content: dict[str, Any], is_shown: bool) -> None:
    reported = {(one.kind, one.name): (one.version, one.digest) for one in (KERNEL, POS)}
    assert shows(reported, {"agent": None, **content}) is is_shown
