"""Roles, and what each may do."""

from django.db.models import TextChoices


class Role(TextChoices):
    """Roles of the enterprise, and two of providers."""

    VIEWER = "viewer", "Viewer"
    OPERATOR = "operator", "Operator"
    MANAGER = "manager", "Manager"
    ADMIN = "admin", "Administrator"
    PROVIDER_VIEWER = "provider_viewer", "Provider viewer"
    PROVIDER_OPERATOR = "provider_operator", "Provider operator"


PROVIDER_ROLES = [Role.PROVIDER_VIEWER.value, Role.PROVIDER_OPERATOR.value]

# About no site: only a membership without limits gives them.
FLEET_ACTIONS = frozenset(
    {"provider.change", "people.change", "blob.put", "standard.change", "standard.publish", "ring.change"}
    | {"rollout.plan", "rollout.run", "webhook.change", "contract.change"}
    | {"report.make", "report.decide", "report.schedule"}
)

_SEE = frozenset(
    {"site.view", "provider.view", "standard.view", "rollout.view"}
    | {"contract.view", "outage.view", "maintenance.view"}
)
# A rollout is approved for the fleet by a membership without limits, for a provider by one of that provider.
_ROLLOUT = frozenset({"rollout.plan", "rollout.run", "rollout.approve", "rollout.hold"})

ACTIONS: dict[str, frozenset[str]] = {
    Role.VIEWER: _SEE,
    Role.OPERATOR: _SEE
    | {"site.poll", "site.acknowledge", "site.change", "site.enrol", "site.hold"}
    | {"rollout.plan", "rollout.run", "rollout.hold"}
    | {"outage.acknowledge", "outage.comment", "maintenance.plan", "report.make"},
    Role.MANAGER: _SEE
    | {"site.acknowledge", "standard.publish", "rollout.approve", "rollout.hold", "contract.change"}
    | {"outage.acknowledge", "outage.comment", "outage.correct", "maintenance.plan", "maintenance.approve"}
    | {"dispute.decide", "report.make", "report.decide", "report.schedule"},
    Role.ADMIN: _SEE
    | {"site.poll", "site.acknowledge", "site.change", "site.enrol", "site.hold", "site.apply"}
    | {"provider.change", "people.change", "blob.put"}
    | {"standard.change", "standard.publish", "ring.change", "webhook.change", "contract.change"}
    | {"outage.acknowledge", "outage.comment", "outage.correct", "maintenance.plan", "maintenance.approve"}
    | {"dispute.decide", "report.make", "report.decide", "report.schedule"}
    | _ROLLOUT,
    Role.PROVIDER_VIEWER: _SEE,
    Role.PROVIDER_OPERATOR: _SEE
    | {"site.poll", "site.acknowledge", "rollout.hold", "rollout.approve"}
    | {"outage.respond", "maintenance.request", "maintenance.consent", "dispute.file"},
}
