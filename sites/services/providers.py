"""Changes of providers."""

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError

from fleet.kit import audit
from fleet.kit.errors import Invalid, NotAllowed
from fleet.kit.tenancy import Rights, Scope, scope
from sites.models import Provider

EDITABLE = ("slug", "name", "contact", "allowed_networks")


def save_provider(
    *, actor: Scope, rights: Rights, values: Mapping[str, Any], provider: Provider | None = None
) -> Provider:
    """Make a provider, or change one. Audited. Raises NotAllowed, Invalid (fields in `details`)."""
    if not rights.may("provider.change"):
        raise NotAllowed("Only an administrator changes providers.")
    with scope(actor):
        row = provider or Provider()
        before = None if provider is None else _snapshot(Provider.objects.get(pk=provider.pk))
        for name in EDITABLE:
            if name in values:
                setattr(row, name, values[name])
        try:
            row.full_clean(validate_unique=False)
            if before is None:
                row.save(force_insert=True)
            else:
                row.save(update_fields=EDITABLE)
        except ValidationError as error:
            details = {name: " ".join(messages) for name, messages in error.message_dict.items()}
            raise Invalid("Some values cannot be taken.", details=details) from None
        except IntegrityError as error:
            field = "slug" if "slug" in str(error) else "name"
            raise Invalid("That is taken.", details={field: "Another provider has this."}) from None
        audit.record(
            actor,
            "provider.create" if before is None else "provider.change",
            object_type="provider",
            object_id=row.pk,
            object_name=row.name,
            provider_id=row.pk,
            before=before,
            after=_snapshot(row),
        )
    return row


def _snapshot(row: Provider) -> dict[str, Any]:
    return {name: getattr(row, name) for name in EDITABLE}
