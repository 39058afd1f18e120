"""Names of states and kinds of standards and compliance."""

from django.db.models import TextChoices


class StandardState(TextChoices):
    """How far a standard is. Only a draft can be changed; only a published one can be given to a ring."""

    DRAFT = "draft", "Draft"
    PUBLISHED = "published", "Published"
    WITHDRAWN = "withdrawn", "Withdrawn"


class Severity(TextChoices):
    """How much it matters that sites run it soon."""

    ROUTINE = "routine", "Routine"
    IMPORTANT = "important", "Important"
    SECURITY = "security", "Security"


class Extras(TextChoices):
    """What containers that Archipelago does not manage are to a standard."""

    ALLOW = "allow", "Listed, but no drift"
    FORBID = "forbid", "Drift"


class Cause(TextChoices):
    """Who or what made a site drift, where it is known; empty where it is not."""

    ROLLOUT_PENDING = "rollout_pending", "A rollout has not reached it yet"
    FAILED_STEP = "failed_step", "A step of a rollout failed there"
    NOT_APPLIED = "not_applied", "It was told, and has not applied it"
    STANDARD_CHANGED = "standard_changed", "The standard of its ring changed"
    CHANGED_ON_SITE = "changed_on_site", "Changed on site, outside a rollout"
