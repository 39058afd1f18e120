"""The demo's standards: what its shops, plants and depots must run, and the rings that follow them."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from fleet.kit.tenancy import Limit, Rights, Scope
from fleet.stack.demo.company import MAIL_DOMAIN
from fleet.standards.contents import read_value
from fleet.standards.models import Ring, Standard
from fleet.standards.services.rings import save_ring, set_ring_standard
from fleet.standards.services.standards import create_standard, publish_standard

RIGHTS = Rights({name: (Limit(),) for name in ("standard.change", "standard.publish", "ring.change", "blob.put")})
KERNEL, NEXT_KERNEL = "6.1.0-41-amd64", "6.1.0-42-amd64"

# The newest versions that the simulated sites have, by what stands at every site of a kind.
VERSIONS = {
    "pos": "4.2.1",
    "inventory-sync": "2.9.4",
    "label-printer": "1.6.0",
    "mqtt-broker": "2.0.20",
    "vision-qc": "7.3.2",
    "edge-db": "17.6",
    "telemetry": "0.131.0",
    "opcua-gateway": "3.4.0",
    "agv-dispatch": "5.1.3",
}
WORKLOADS = {
    "shop": ("pos", "inventory-sync", "label-printer", "edge-db"),
    "plant": ("vision-qc", "mqtt-broker", "edge-db", "opcua-gateway", "telemetry", "label-printer", "agv-dispatch"),
    "depot": ("inventory-sync", "label-printer", "mqtt-broker", "edge-db", "agv-dispatch"),
}
# Name of the standard: the kind of site, its kernel, how it reads, and the ring that follows it with its labels.
STANDARDS: tuple[tuple[str, str, str, Mapping[str, Any], str, Mapping[str, str]], ...] = (
    (
        "shops-2026.11-r3",
        "shop",
        NEXT_KERNEL,
        {"severity": "security", "deadline_h": 72, "notes": "The kernel of November's advisory. Canaries first."},
        "Canary",
        {"ring": "canary", "kind": "shop"},
    ),
    ("shops-2026.11-r2", "shop", KERNEL, {"deadline_h": 336, "notes": "Tills 4.2.1."}, "Stable", {"kind": "shop"}),
    ("plants-2026.11-r1", "plant", KERNEL, {"deadline_h": 336}, "Plants", {"kind": "plant"}),
    ("depots-2026.11-r1", "depot", KERNEL, {"deadline_h": 336}, "Depots", {"kind": "depot"}),
)


def content_of(kind: str, kernel: str) -> dict[str, Any]:
    """What sites of a kind run, as people write it."""
    workloads = []
    for name in WORKLOADS[kind]:
        digest = sha256(f"{name}:{VERSIONS[name]}".encode()).hexdigest()
        image = f"registry.{MAIL_DOMAIN}/{name}@sha256:{digest}"
        workloads.append({"name": name, "image": image, "version": VERSIONS[name]})
    return {"workloads": workloads, "os": {"kernel": kernel, "reboot": "window"}}


def make_standards(actor: Scope) -> int:
    """Publish the demo's standards and give them to rings, unless somebody has made any. Returns how many were made.

    Writes within the open scope, which is the actor's.
    """
    if Standard.objects.exists() or Ring.objects.exists():
        return 0
    common: dict[str, Any] = {"actor": actor, "rights": RIGHTS}
    for name, kind, kernel, about, ring_name, labels in STANDARDS:
        draft = read_value(content_of(kind, kernel))
        made = create_standard(**common, draft=draft, values={"name": name, **about})
        publish_standard(**common, standard=made, expect=made.sha256)
        values = {"name": ring_name, "slug": ring_name.lower(), "labels": dict(labels)}
        ring = save_ring(**common, values=values)
        set_ring_standard(**common, ring=ring, standard=made, reason="the demo's beginning", expect=None)
    return len(STANDARDS)
