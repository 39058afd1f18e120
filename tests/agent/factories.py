"""Reports and JSON bodies for tests."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from agent.protocol import Component, Desired, Report, Resources, Verdict, Workload, components_digest

SITE = UUID("3f6c1c1e-7f2d-4c55-9d0a-0a4c8a1f2b10")
AT = datetime(2026, 11, 23, 21, 0, tzinfo=UTC)
COMPONENTS = (
    Component("kernel", "linux", "6.1.0-21-amd64"),
    Component("workload", "pos", "4.2.1", "sha256:" + "ab" * 32),
)


def make_report(**fields: Any) -> Report:
    values: dict[str, Any] = {
        "protocol": 1,
        "site": SITE,
        "boot": "84bd36e5-1ff2-4c0a-a7a8-bad60a869b7c",
        "mono_ms": 86_400_123,
        "at": AT,
        "verdict": Verdict("up", AT),
        "resources": Resources(
            cpu_count=8,
            cpu_ratio=0.31,
            load1=1.2,
            mem_bytes=8 << 30,
            mem_total_bytes=32 << 30,
            disk_bytes=10**11,
            disk_total_bytes=10**12,
            net_rx_bytes_total=5,
            net_tx_bytes_total=6,
            temp_celsius=41.5,
            power_watts=118.0,
        ),
        "components_digest": components_digest(fields.get("components") or COMPONENTS),
        "components": COMPONENTS,
        "workloads": (Workload(name="pos", managed=True, state="running", health="healthy", cpu_ratio=0.02),),
        "desired": Desired(1, 7, "applied"),
        "journal_seq": 4711,
        "journal_head": "sha256:" + "cd" * 32,
    }
    return Report(**{**values, **fields})


def make_body(**fields: Any) -> dict[str, Any]:
    """The least a report must have, as JSON objects, with fields replaced or, by `...`, left out."""
    body: dict[str, Any] = {
        "protocol": 1,
        "site": str(SITE),
        "boot": "b",
        "mono_ms": 1,
        "at": "2026-11-23T21:00:00.000Z",
        "verdict": {"state": "up", "since": "2026-11-23T20:00:00.000Z"},
        "resources": {
            "cpu_count": 8,
            "cpu_ratio": 0.31,
            "mem_bytes": 1,
            "mem_total_bytes": 2,
            "disk_bytes": 3,
            "disk_total_bytes": 4,
        },
        "components_digest": "sha256:" + "0" * 64,
    }
    body |= fields
    return {name: value for name, value in body.items() if value is not ...}


def as_bytes(body: Any) -> bytes:
    return json.dumps(body).encode()
