"""Sites that join, for tests of services: the site's side by the agent's own code, the signer's by its authority."""

from typing import Any

from django.utils import timezone

from agent.identity import Identity, Keys
from agent.protocol.identity import EnrolRequest
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import scope
from sites.models import JoinToken, PollSchedule, Site, SiteCertificate, SiteIdentity
from sites.services.enrolment import present_keys
from sites.services.joining import new_token
from tests.conftest import TEST

TABLES = (Site, JoinToken, SiteIdentity, SiteCertificate, PollSchedule, AuditEntry)


def owned(model: Any) -> Any:
    return model.objects.using("owner")


def stored() -> dict[str, list[dict[str, Any]]]:
    """Everything that a decision about an identity may change."""
    return {
        model.__name__: [
            {key: bytes(value) if isinstance(value, memoryview) else value for key, value in row.items()}
            for row in owned(model).order_by("pk").values()
        ]
        for model in TABLES
    }


def join(site: Site, *, pre_authorised: bool = False, **fields: Any) -> bytes:
    """The secret of a new join string for the site; fields are set on its row afterwards."""
    now = timezone.now()
    with scope(TEST):
        JoinToken.objects.filter(site=site, withdrawn_at=None).update(withdrawn_at=now)
        token, secret = new_token(site, made_by="test", pre_authorised=pre_authorised, now=now)
        for name, value in fields.items():
            setattr(token, name, value)
        token.save(force_insert=True)
    return secret


def request_of(site: Site, secret: bytes, identity: Identity | None = None) -> EnrolRequest:
    """What the site sends; with keys of its own unless it is given some."""
    return (identity or Identity(site.uuid, Keys.make())).enrol_request(secret, host="host-1")


def present(site: Site, *, pre_authorised: bool = False) -> Identity:
    """Have the site join with new keys, which wait, or are accepted where that was said before."""
    identity = Identity(site.uuid, Keys.make())
    present_keys(request_of(site, join(site, pre_authorised=pre_authorised), identity), remote="192.0.2.7")
    return identity
