"""Tables of rollouts: plans, waves, the steps of sites and their attempts, and the records of who decided and why.

Rows of Rollout, Wave and SiteStep are those of engine/facts.py; what the engine writes of them is named there.
"""

from collections.abc import Iterable

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from fleet.rollouts import states
from fleet.rollouts.engine.actions import DocumentKind
from fleet.rollouts.engine.facts import Origin
from fleet.rollouts.models_webhooks import WebhookDelivery as WebhookDelivery
from fleet.rollouts.models_webhooks import WebhookEndpoint as WebhookEndpoint
from fleet.standards.models import Standard
from sites.models import DesiredDocument, Provider, Site

OPEN_STEPS = (*states.AT_WORK, states.StepState.SOAKING, states.StepState.IN_DOUBT, states.StepState.ROLLING_BACK)


def _one_of(name: str, field: str, values: Iterable[str]) -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(**{f"{field}__in": [str(value) for value in values]}), name=name)


class Rollout(models.Model):
    """A plan and how far it is. `plan` is the canonical JSON of plan.Plan, `plan_hash` its hash.

    A trigger lets the plan change in a draft only, and nothing go back to a draft once it was started.
    """

    name = models.CharField(max_length=120)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    standard = models.ForeignKey(Standard, on_delete=models.PROTECT, related_name="rollouts")
    plan = models.TextField()
    plan_hash = models.CharField(max_length=71)
    recipe = models.JSONField(default=dict, help_text="What the plan was made of (recipe.Recipe), to begin from again.")
    sites = models.PositiveIntegerField(help_text="How many steps it has.")
    state = models.CharField(max_length=24, default=states.RolloutState.DRAFT)
    since = models.DateTimeField()
    pause = models.CharField(max_length=8, blank=True)
    reason = models.TextField(blank=True)
    until = models.DateTimeField(null=True)
    approved_hash = models.CharField(max_length=71, blank=True)
    lane = models.CharField(max_length=8, default=states.LaneState.OPEN)
    watched_at = models.DateTimeField(null=True)
    watching_since = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    is_live = models.BooleanField(default=True, help_text="Whether a tick may still find something to do.")
    made_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["id"], condition=Q(is_live=True), name="rollout_live")]
        constraints = [
            _one_of("rollout_state", "state", states.RolloutState),
            _one_of("rollout_pause", "pause", ("", *states.Pause)),
            _one_of("rollout_lane", "lane", states.LaneState),
        ]

    def __str__(self) -> str:
        return self.name


class Wave(models.Model):
    """Sites that are changed together; `index` counts from 0, as in the plan."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="waves", db_index=False)
    index = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=60)
    state = models.CharField(max_length=8, default=states.WaveState.PENDING)
    since = models.DateTimeField()
    opened_at = models.DateTimeField(null=True)
    reason = models.TextField(blank=True)
    undoing = models.BooleanField(default=False)
    answer = models.BooleanField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rollout", "index"], name="wave_once"),
            _one_of("wave_state", "state", states.WaveState),
        ]

    def __str__(self) -> str:
        return f"wave {self.index} of rollout {self.rollout_id}"


class SiteStep(models.Model):
    """One site of a rollout. `lease` guards each write; `document` is the newest that was given out for it.

    `origin_document` holds what a rollback gives the site again, `origin_components` what it must then report; both
    are noted when the step is claimed for the first time. No index on `due_at` alone: see the partial ones.
    """

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="steps", db_index=False)
    wave = models.PositiveSmallIntegerField()
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="steps", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    region = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=16, default=states.StepState.QUEUED)
    since = models.DateTimeField()
    due_at = models.DateTimeField(null=True)
    begun_at = models.DateTimeField(null=True)
    waits_since = models.DateTimeField(null=True)
    wait = models.CharField(max_length=12, blank=True)
    failure = models.CharField(max_length=12, blank=True)
    reason = models.CharField(max_length=600, blank=True)
    lease = models.IntegerField(default=0)
    tries = models.SmallIntegerField(default=0)
    lane = models.BooleanField(default=False)
    slot = models.BooleanField(default=False)
    frozen = models.BooleanField(default=False)
    undoing = models.BooleanField(default=False)
    escalated = models.BooleanField(default=False)
    origin = models.CharField(max_length=10, default=Origin.NONE)
    origin_components = models.CharField(max_length=71, blank=True)
    origin_document = models.ForeignKey(
        DesiredDocument, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    document = models.ForeignKey(DesiredDocument, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    boot_before = models.CharField(max_length=64, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["rollout", "wave", "lane", "state", "failure"], name="step_counts"),
            models.Index(
                fields=["rollout", "due_at"],
                condition=Q(due_at__isnull=False) & ~Q(state=states.StepState.QUEUED),
                name="step_due",
            ),
            models.Index(fields=["rollout", "provider", "region"], condition=Q(slot=True), name="step_slot"),
            models.Index(fields=["site"], name="step_site"),
            models.Index(fields=["provider", "rollout"], name="step_provider"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["rollout", "site"], name="step_once"),
            models.UniqueConstraint(
                fields=["site"], condition=Q(state__in=[str(state) for state in OPEN_STEPS]), name="step_one_open"
            ),
            _one_of("step_state", "state", states.StepState),
            _one_of("step_failure", "failure", ("", *states.Failure)),
            _one_of("step_wait", "wait", ("", *states.Wait)),
            _one_of("step_origin", "origin", Origin),
        ]

    def __str__(self) -> str:
        return f"site {self.site_id} of rollout {self.rollout_id}: {self.state}"


class Attempt(models.Model):
    """One signed document that a step gave out. `lane`: the step was catching up."""

    step = models.ForeignKey(SiteStep, on_delete=models.PROTECT, related_name="attempts", db_index=False)
    rollout = models.ForeignKey(Rollout, on_delete=models.PROTECT, related_name="+", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    document = models.OneToOneField(DesiredDocument, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=8)
    lane = models.BooleanField(default=False)
    state = models.CharField(max_length=10, default=states.AttemptState.GIVEN_OUT)
    given_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["step", "-id"], name="attempt_step"),
            models.Index(fields=["rollout", "given_at"], name="attempt_given"),
        ]
        constraints = [
            _one_of("attempt_kind", "kind", DocumentKind),
            _one_of("attempt_state", "state", states.AttemptState),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of step {self.step_id}: {self.state}"


# Who decided, and why ---------------------------------------------------------------------------------------
class GateEvaluation(models.Model):
    """What gates answered, with all that they saw. Rows are only added."""

    rollout = models.ForeignKey(Rollout, on_delete=models.PROTECT, related_name="evaluations", db_index=False)
    wave = models.PositiveSmallIntegerField()
    at = models.DateTimeField()
    outcome = models.CharField(max_length=12)
    sentence = models.TextField(blank=True)
    evaluation = models.JSONField(help_text="gates.Evaluation: results and what was seen.")

    class Meta:
        indexes = [models.Index(fields=["rollout", "-id"], name="evaluation_rollout")]

    def __str__(self) -> str:
        return f"{self.outcome} of wave {self.wave} of rollout {self.rollout_id}"


class Hold(models.Model):
    """Somebody says: not now. A site, a region (of a provider, or whole), a provider, or, with none of these, all.

    `provider` of a hold on a site is the site's. `overridden_by` are ids of people who agreed to override it.
    """

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    region = models.CharField(max_length=64, blank=True)
    site = models.ForeignKey(Site, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    reason = models.CharField(max_length=300)
    until = models.DateTimeField()
    made_by = models.CharField(max_length=150)
    by_provider = models.BooleanField(
        default=False, db_default=False, help_text="Whether the provider's own people hold it."
    )
    made_at = models.DateTimeField(db_default=Now())
    lifted_by = models.CharField(max_length=150, blank=True)
    lifted_at = models.DateTimeField(null=True)
    overridden_by = models.JSONField(default=list)

    class Meta:
        indexes = [models.Index(fields=["until"], condition=Q(lifted_at=None), name="hold_until")]

    def __str__(self) -> str:
        return f"hold until {self.until}: {self.reason}"


class ProviderAsked(models.Model):
    """The plan asks this provider's approval: what a provider may know of it. `approval_s`: how long a word holds."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="providers_asked")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    approval_s = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rollout", "provider"], name="provider_asked_once")]

    def __str__(self) -> str:
        return f"provider {self.provider_id} of rollout {self.rollout_id}"


class Approval(models.Model):
    """A person's word on a plan. `provider`: whom they speak for; None for the operator. Rows are only added."""

    rollout = models.ForeignKey(Rollout, on_delete=models.PROTECT, related_name="approvals")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    user_name = models.CharField(max_length=150)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    plan_hash = models.CharField(max_length=71)
    yes = models.BooleanField()
    reason = models.CharField(max_length=300, blank=True)
    at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.user_name} says {'yes' if self.yes else 'no'} to rollout {self.rollout_id}"


class RolloutEvent(models.Model):
    """What happened in a rollout; of a site where `step` says so, whose provider may see it. Rows are only added."""

    rollout = models.ForeignKey(Rollout, on_delete=models.PROTECT, related_name="events", db_index=False)
    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    thing = models.CharField(max_length=8, help_text="rollout, lane, wave or step")
    event = models.CharField(max_length=24)
    state = models.CharField(max_length=24, help_text="What it led to.")
    wave = models.PositiveSmallIntegerField(null=True)
    step = models.ForeignKey(SiteStep, on_delete=models.PROTECT, null=True, related_name="events", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    wait = models.CharField(max_length=12, blank=True, db_default="", help_text="What a step waits for from then on.")
    sentence = models.TextField(blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["rollout", "-id"], name="event_rollout"),
            models.Index(fields=["step", "-id"], condition=Q(step__isnull=False), name="event_step"),
        ]

    def __str__(self) -> str:
        return f"{self.thing} of rollout {self.rollout_id}: {self.event}"


class ProviderCalendar(models.Model):
    """When a provider's sites may be changed: windows.Calendar as JSON. Without a row: always."""

    provider = models.OneToOneField(Provider, on_delete=models.PROTECT, primary_key=True, related_name="+")
    calendar = models.JSONField()
    changed_by = models.CharField(max_length=150)
    changed_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"calendar of provider {self.provider_id}"


class ChangedSite(models.Model):
    """A site of which something has changed that its step rests on. Added by triggers, taken by the tick."""

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="+", db_constraint=False)
    provider = models.ForeignKey(
        Provider, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )

    def __str__(self) -> str:
        return f"site {self.site_id} has changed"
