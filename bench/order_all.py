"""Orders one version for every active simulated site: `python -m bench.order_all`, with the stack's environment."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
django.setup()

from django.utils import timezone  # noqa: E402  (after django.setup)

from fleet.kit.tenancy import job, scope  # noqa: E402
from fleet.stack.demo.company import HOST_SITE_UUID  # noqa: E402
from sites.models import Site  # noqa: E402
from sites.services.desired import Order, give_out  # noqa: E402

ACTOR = job("bench")
CONTENT = {
    "workloads": [
        {"name": name, "image": f"registry.example/{name}@sha256:" + "5" * 64, "version": "9.9.9"}
        for name in ("pos", "edge-db", "telemetry", "inventory-sync")
    ]
}


def main() -> None:
    """One transaction for all of them."""
    with scope(ACTOR):
        sites = Site.objects.filter(life="active").exclude(uuid=HOST_SITE_UUID).order_by("pk")
        orders = [Order(site, CONTENT) for site in sites]
        give_out(orders, made_by=ACTOR.name, reason="bench", now=timezone.now())


if __name__ == "__main__":
    main()
