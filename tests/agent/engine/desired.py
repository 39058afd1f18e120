"""Documents and blobs for tests of the part `workload`, and a driver of its steps."""

import time
from datetime import timedelta
from typing import Any

from agent.apply.part import ApplyError, Change, Check, Part
from agent.protocol.desired import (
    DesiredWorkload,
    Document,
    HealthCheck,
    Policy,
    WorkloadConfig,
    digest,
    encode_config,
)
from tests.agent.factories import AT, SITE

HEALTH = HealthCheck(command=("/bin/test", "-e", "/healthy"), interval_s=0.1, timeout_s=5.0, retries=2, grace_s=0.1)


# No network: bridges, addresses and rules of a firewall would be the machine's, not those of the test's engine.
PLAIN = encode_config(WorkloadConfig(network="none"))


class Blobs:
    """Blobs in memory; PLAIN is one of them."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {digest(PLAIN): PLAIN}

    def add(self, **values: Any) -> str:
        """Hold a configuration; its digest."""
        data = encode_config(WorkloadConfig(**{"network": "none", **values}))
        self.held[digest(data)] = data
        return digest(data)

    def read(self, name: str) -> bytes:
        try:
            return self.held[name]
        except KeyError:
            raise ApplyError(f"the blob {name} is missing") from None


def make_workload(image: str, version: str = "A", **values: Any) -> DesiredWorkload:
    defaults = {"name": "pos", "image": image, "version": version, "settle_s": 0.2, "config_sha256": digest(PLAIN)}
    return DesiredWorkload(**{**defaults, **values})


def make_document(*workloads: DesiredWorkload, version: int = 1) -> Document:
    return Document(
        fleet="archipelago",
        provider=1,
        site=SITE,
        epoch=0,
        version=version,
        prev_sha256=None,
        issued_at=AT,
        expires_at=AT + timedelta(days=30),
        hold=False,
        standard=None,
        workloads=workloads,
        agent=None,
        os=None,
        policy=Policy(),
        rollout=None,
    )


def settled(part: Part, document: Document, change: Change, seconds: float = 20) -> Check:
    """What check() says in the end."""
    until = time.monotonic() + seconds
    while True:
        found = part.check(document, change)
        if found.state != "waiting" or time.monotonic() > until:
            return found
        time.sleep(0.05)


def apply(part: Part, document: Document, blobs: Blobs) -> list[str]:
    """Bring a document about, or back to what was, as the applier does; why each change that failed did."""
    changes = part.changes(document, blobs)
    for change in changes:
        part.stage(document, change, blobs)
    switched: list[Change] = []
    for change in changes:
        switched.append(change)
        try:
            part.switch(document, change, blobs)
            found = settled(part, document, change)
        except ApplyError as error:
            found = Check("broken", str(error))
        if found.state != "well":
            for done in reversed(switched):
                part.restore(document, done)
            return [f"{change.name}: {found.detail}"]
    for change in changes:
        part.keep(document, change)
    return []
