"""What sites run, from the order to the signed receipt: real processes, simulated sites and a real container engine."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.control import request
from agent.protocol.desired import open_document, open_receipt
from agent.status import read_identity
from fleet.kit import signing
from sites.models import Provider, Site
from sites.services import desired
from sites.services.joining import accept, make_join
from sites.services.sites import create_sites, update_site
from tests.agent.wire import ROOT
from tests.conftest import TEST, everything
from tests.engine import Podman, Registry, podman_at, registry_at
from tests.flows.system import System, all_up, free_port, query, wait_for
from tests.flows.test_one_machine import agent

Make = Callable[..., Provider]
REASON = "bring it to the version of today"
STATE = "SELECT reported_epoch, reported_version, reported_state FROM edge_sites_sitedesired WHERE site_id = %s"
RECEIPTS = "SELECT version, state FROM edge_sites_desiredreceipt WHERE site_id = %s AND version = %s ORDER BY id"
IMAGE = "registry.example/pos@sha256:"


def apply(site: Site, *workloads: dict[str, Any], **content: Any) -> int:
    """Order the next version for a site; its number."""
    content = {"workloads": list(workloads), **content}
    made = desired.apply(actor=TEST, rights=everything(), site=site, content=content, reason=REASON)
    return made.version


def runs(site: Site, version: str, digest: str) -> bool:
    """Whether the site's last report says that its workload runs so."""
    ((components,),) = query(
        "SELECT components::text FROM edge_sites_sitestate JOIN edge_sites_componentset ON digest = component_set_id"
        " WHERE site_id = %s",
        site.pk,
    )
    return ["workload", "pos", version, digest] in json.loads(components)


def ended(site: Site, version: int, state: str) -> bool:
    """Whether the site says that this version has come to that, and has signed it."""
    return query(STATE, site.pk) == [(1, version, state)] and (version, state) in query(RECEIPTS, site.pk, version)


@pytest.mark.parametrize("dial_out", [False, True], ids=["dialled", "linked"])
def test_an_order_is_signed_handed_over_applied_and_receipted(
    system: System, make_provider: Make, dial_out: bool
) -> None:
    sites = system.start_sites(3, provider_id=make_provider().pk, dial_out=range(3) if dial_out else ())
    wait_for(lambda: all_up(sites), what="three sites up")
    site, failing, other = sites

    config = desired.put_config(actor=TEST, rights=everything(), config={"env": {"TILL": "7"}})
    version = apply(site, {"name": "pos", "image": IMAGE + "a" * 64, "version": "9.0.1", "config_sha256": config})
    wait_for(lambda: ended(site, version, "applied"), what="the order is applied")
    wait_for(lambda: runs(site, "9.0.1", "sha256:" + "a" * 64), what="its components say so")
    ((envelope, sha256),) = query("SELECT envelope, sha256 FROM edge_sites_desireddocument WHERE site_id = %s", site.pk)
    key = x509.load_pem_x509_certificate(signing.roots().documents[0].encode()).public_key()
    assert isinstance(key, Ed25519PublicKey)
    assert open_document(bytes(envelope), [key.public_bytes_raw()]).site == site.uuid
    ((receipt, signing_key),) = query(
        "SELECT r.envelope, i.signing_key FROM edge_sites_desiredreceipt r JOIN edge_sites_siteidentity i"
        " ON i.id = r.identity_id WHERE r.site_id = %s AND r.state = 'applied'",
        site.pk,
    )
    assert open_receipt(bytes(receipt), bytes(signing_key)).sha256 == sha256

    request(system.control, {"cmd": "fail_apply", "fault": "unhealthy", "sites": [str(failing.uuid)]})
    version = apply(failing, {"name": "pos", "image": IMAGE + "b" * 64, "version": "9.0.2"})
    wait_for(lambda: ended(failing, version, "rolled_back"), what="what is never well is undone")
    assert query("SELECT count(*) FROM edge_sites_sitedesired WHERE site_id = %s", other.pk) == [(0,)]


def test_a_frozen_site_holds_and_one_that_is_handed_over_is_told_anew(system: System, make_provider: Make) -> None:
    before, after = make_provider(), make_provider()
    (site,) = sites = system.start_sites(1, provider_id=before.pk)
    wait_for(lambda: all_up(sites), what="the site is up")
    first = apply(site, {"name": "pos", "image": IMAGE + "a" * 64, "version": "1"})
    wait_for(lambda: ended(site, first, "applied"), what="the first version")
    hold = partial(desired.set_hold, actor=TEST, rights=everything(), site=site, reason=REASON)
    frozen = hold(hold=True).version
    wait_for(lambda: query(STATE, site.pk)[0][1] == frozen, what="it knows that it is frozen")
    held = apply(site, {"name": "pos", "image": IMAGE + "c" * 64, "version": "2"})
    wait_for(lambda: query(STATE, site.pk) == [(1, held, "held")], what="a frozen site holds")
    thawed = hold(hold=False).version
    wait_for(lambda: ended(site, thawed, "applied"), what="thawed, it goes on")

    update_site(actor=TEST, rights=everything(), site=site, values={"provider_id": after.pk})
    wait_for(lambda: ended(site, thawed + 1, "applied"), what="the same in the name of the new provider")
    rows = query("SELECT provider_id FROM edge_sites_desireddocument WHERE site_id = %s ORDER BY version", site.pk)
    assert {pk for (pk,) in rows[:-1]} == {before.pk}
    assert rows[-1] == (after.pk,)


# A real container engine ------------------------------------------------------------------------------------
@contextmanager
def machine(system: System, provider_id: int, podman: Podman) -> Iterator[Site]:
    """A real agent beside a real engine, enrolled, while it is polled."""
    port = free_port()
    row = {"slug": "shop", "name": "Shop", "lat": 50.0, "lon": 10.0, "provider_id": provider_id, "life": "active"}
    row |= {"address": f"127.64.9.9:{port}", "poll_interval_s": 1}
    (site,) = create_sites(actor=TEST, rights=everything(), rows=[row])
    root = bytes.fromhex(signing.roots().root_sha256)
    folder, config = system.folder / "machine", system.folder / "machine.toml"
    config.write_text(
        f'state = "{folder}"\nlisten = "127.64.9.9:{port}"\n[engine]\nsocket = "{podman.socket}"\ninterval_s = 0.5\n'
    )
    join = make_join(actor=TEST, rights=everything(), site=site, root_sha256=root)
    enrol = partial(agent, "enrol", "--no-wait", "-", config=config, input=join)
    told = wait_for(lambda: (told := enrol()).returncode != 3 and told, what="the gateway answers")
    assert told.returncode == 0, told.stderr
    identity = read_identity(folder)
    assert identity is not None
    accept(actor=TEST, rights=everything(), site=site, fingerprint=identity.keys.fingerprint)
    with (system.folder / "machine.log").open("wb") as log:
        command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            wait_for(lambda: all_up([site]), what="the machine is up")
            yield site
        finally:
            process.terminate()
            assert process.wait(30) == 0


def push(registry: Registry, version: str) -> str:
    return registry.push("shop/pos", {"version": version.encode()}, ["sleep", "1000"])


def running(podman: Podman) -> str:
    """What the container that runs was made from."""
    return podman.run("exec", "archipelago-pos", "cat", "/version")


def test_a_real_container_becomes_the_next_by_digest_and_a_bad_one_undoes_itself(
    system: System, make_provider: Make
) -> None:
    registry_port = free_port()
    with (
        podman_at([registry_port]) as podman,
        registry_at(registry_port) as registry,
        machine(system, make_provider().pk, podman) as site,
    ):
        a, b, c = (push(registry, name) for name in "ABC")
        one = desired.put_config(actor=TEST, rights=everything(), config={"network": "none"})
        pos = {"name": "pos", "config_sha256": one, "settle_s": 1.0}
        good = {"command": ["test", "-f", "/version"], "interval_s": 1.0, "timeout_s": 1.0, "grace_s": 20.0}
        first = apply(site, {**pos, "image": a, "version": "A", "health": good})
        wait_for(lambda: ended(site, first, "applied"), what="A runs")
        assert running(podman) == "A"
        second = apply(site, {**pos, "image": b, "version": "B", "health": good})
        wait_for(lambda: ended(site, second, "applied"), what="B runs")
        assert running(podman) == "B"
        digest = b.partition("@")[2]
        wait_for(lambda: runs(site, "B", digest), what="its report says B")

        never = {**good, "command": ["test", "-f", "/nothing"], "retries": 2, "grace_s": 2.0}
        third = apply(site, {**pos, "image": c, "version": "C", "health": never})
        wait_for(lambda: ended(site, third, "rolled_back"), what="C is undone")
        assert running(podman) == "B"
        assert podman.names() == {"archipelago-pos"}
        wait_for(lambda: runs(site, "B", digest), what="its report says B")
