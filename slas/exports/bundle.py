"""The evidence bundle of a report: one form of bytes for the same facts, to be signed (see slas.envelope)."""

import base64
import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, Final
from zoneinfo import TZPATH

from fleet.kit.signing import ReportKeys
from slas.exports.vectors import sync_vectors_of, vectors_of
from slas.reporting.counted import Offered
from slas.selectors.figures import Told

RULE_VERSION: Final = 1


def payload_of(
    told: Iterable[Told],
    evidence: Iterable[Mapping[str, Any]],
    *,
    report: Mapping[str, Any],
    keys: ReportKeys,
    offered: Iterable[tuple[str, Iterable[Offered]]] = (),
) -> bytes:
    """What is signed: a vector for each site and objective, what proves them, and the key. `report` says of what;
    `offered` are the standards of version synchronisation, by the name that a provider has in addresses.

    Sites that were handed over, or got other labels, have a vector for each of their times, numbered by their order.
    """
    contract = report["contract"]
    timed = (
        vectors_of(one.terms, one.objective, one.inputs, f"{contract} {one.segment.provider.slug}") for one in told
    )
    synced = (sync_vectors_of(own, f"{contract} {slug}") for slug, own in offered)
    vectors: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for vector in chain.from_iterable(chain(timed, synced)):
        name = vector["name"]
        seen[name] = seen.get(name, 0) + 1
        vectors.append(vector if seen[name] == 1 else {**vector, "name": f"{name} ({seen[name]})"})
    value = {
        "vectors": vectors,
        "evidence": [
            {**report, "type": "report"},
            {
                "type": "signing_key",
                "public_key": base64.b64encode(keys.bundle_key).decode(),
                "certificate": keys.bundle,
                "root": keys.root,
            },
            *evidence,
        ],
        "tzdata": tzdata_version(),
        "rule_version": RULE_VERSION,
    }
    return canonical(value)


def canonical(value: Any) -> bytes:
    """JSON in one form: members by name, no spaces, UTF-8. Raises ValueError for figures that are not finite."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def tzdata_version() -> str:
    """The release of the time zones that this process counts with: the system's, where it has them, as Python does."""
    for folder in TZPATH:
        path = Path(folder) / "tzdata.zi"
        if path.is_file():
            with path.open() as file:
                return file.readline().removeprefix("# version").strip()
        if (Path(folder) / "UTC").exists():
            return "system"
    return str(import_module("tzdata").IANA_VERSION)  # where the system has none, the package is what counts
