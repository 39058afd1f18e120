"""The demo's standards: sites that have the newest of everything run them, and most of its sites do."""

from collections import Counter

import pytest

from agent.backends.catalogue import WORKLOADS as SIMULATED
from agent.backends.catalogue import make_component
from fleet.kit.tenancy import job, scope
from fleet.stack.demo.sites import KINDS, demo_sites
from fleet.stack.demo.standards import STANDARDS, VERSIONS, WORKLOADS, content_of, make_standards
from fleet.standards.contents import expected_components, read_value
from fleet.standards.models import Ring, Standard

TEST = job("demo")


@pytest.mark.parametrize("kind", WORKLOADS)
def test_a_site_with_the_newest_of_everything_runs_the_standard_of_its_kind(kind):
    (profile,) = {profile for name, _, profile in KINDS if name == kind}
    (number,) = {site.workloads for site in demo_sites(120) if site.profile == profile}
    stands = SIMULATED[profile][:number]
    newest = [make_component("workload", one.name, one.versions[0]) for one in stands]
    expected = expected_components(read_value(content_of(kind, "6.1.0-41-amd64")).content)
    wanted = {(row["name"], row["version"], row["digests"][""]) for row in expected if row["kind"] == "workload"}
    assert wanted == {(one.name, one.version, one.digest) for one in newest}
    assert VERSIONS.keys() >= {one.name for one in newest}


@pytest.mark.usefixtures("database")
def test_they_are_made_once_and_never_beside_those_of_people():
    with scope(TEST):
        assert make_standards(TEST) == len(STANDARDS)
        assert make_standards(TEST) == 0
        assert Counter(Standard.objects.values_list("state", flat=True)) == {"published": 4}
        assert list(Ring.objects.order_by("position").values_list("slug", flat=True)) == [
            *("canary", "stable", "plants", "depots")
        ]
