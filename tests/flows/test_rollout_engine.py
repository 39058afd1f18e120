"""A rollout on a real container engine: proven by the digest that runs, held by what never gets well, and led back."""

from collections.abc import Callable
from typing import Any

from fleet.rollouts.services import control
from fleet.standards.models import Standard
from sites.models import Provider
from sites.services import desired
from tests.conftest import TEST, everything
from tests.engine import podman_at, registry_at
from tests.fleet.standards.factories import make_standard
from tests.flows.rolling import People
from tests.flows.system import System, free_port, wait_for
from tests.flows.test_desired import machine, push, running, runs

GOOD = {"command": ["test", "-f", "/version"], "interval_s": 1.0, "timeout_s": 1.0, "grace_s": 20.0}
NEVER = {**GOOD, "command": ["test", "-f", "/nothing"], "retries": 2, "grace_s": 2.0}


def test_real_containers_are_rolled_out_held_and_led_back(
    system: System, make_provider: Callable[..., Provider]
) -> None:
    port = free_port()
    with (
        podman_at([port]) as podman,
        registry_at(port) as registry,
        machine(system, make_provider().pk, podman) as site,
    ):
        config = desired.put_config(actor=TEST, rights=everything(), config={"network": "none"})
        images = {version: push(registry, version) for version in "ABC"}

        def standard(version: str, health: dict[str, Any] = GOOD) -> Standard:
            pos = {"name": "pos", "image": images[version], "version": version, "settle_s": 1.0, "health": health}
            return make_standard(f"shops {version}", {"workloads": [{**pos, "config_sha256": config}], "os": None})

        people = People()
        first = people.roll_out(standard("A"), [site]).wait("succeeded")
        assert (first.states(), running(podman)) == (["proven"], "A")
        second = people.roll_out(standard("B"), [site]).wait("succeeded")
        assert (second.states(), running(podman)) == (["proven"], "B")

        second.do(control.roll_back, reason="it was B all along")
        second.wait("rolled_back")
        assert (second.states(), running(podman)) == (["rolled_back"], "A")

        third = people.roll_out(standard("C", NEVER), [site]).wait("paused held")
        assert (third.failures(), running(podman)) == ({site.pk: "unhealthy"}, "A")
        third.do(control.roll_back, reason="it never gets well")
        third.wait("rolled_back")
        assert (third.states(), running(podman)) == (["rolled_back"], "A")
        wait_for(lambda: runs(site, "A", images["A"].partition("@")[2]), what="its report says A")
        assert podman.names() == {"archipelago-pos"}
