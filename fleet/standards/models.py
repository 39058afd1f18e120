"""Tables of standards: what they are, which ring has which, and how sites compare with them."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.urls import reverse

from fleet.standards.states import Cause, Extras, Severity, StandardState
from sites.models import SLUG, TEXT, ComponentSet, Fact, Provider, Site
from sites.states import Compliance
from sites.validators import validate_free_slug, validate_labels, validate_lines

NAME = RegexValidator(
    r"\A[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?\Z",
    "Lower-case letters and digits, joined by dots, hyphens, underscores.",
)


def validate_free_name(value: str) -> None:
    """Raise ValidationError for a name that is a page's own address."""
    if value in {"new", "diff", "export", "rings"}:
        raise ValidationError(f"{value} is the address of a page")


class Standard(models.Model):
    """An immutable, exact set of components that sites must run. Once published, a trigger keeps it as it is.

    `content` holds `workloads`, `agent` and `os` as a document does; a workload may name `images` by architecture in
    place of `image`. `components` is the same as what reports are compared with (see contents.expected_components).
    """

    name = models.CharField(max_length=64, unique=True, validators=[NAME, validate_free_name])
    state = models.CharField(max_length=9, choices=StandardState, default=StandardState.DRAFT)
    content = models.JSONField()
    sha256 = models.CharField(max_length=71, help_text="Of the content in its one form.")
    components = models.JSONField(help_text="[{kind, name, version, digests: {architecture or empty: digest}}, ...]")
    by_architecture = models.BooleanField(default=False)
    notes = models.TextField(blank=True, max_length=20000, validators=[validate_lines])
    severity = models.CharField(max_length=9, choices=Severity, default=Severity.ROUTINE)
    deadline_h = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(8760)],
        help_text="How soon sites must run it, in hours.",
    )
    extras = models.CharField(max_length=6, choices=Extras, default=Extras.ALLOW)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField(db_default=Now(), editable=False)
    published_by = models.CharField(max_length=150, blank=True)
    published_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=StandardState.values), name="standard_state"),
            models.CheckConstraint(condition=Q(severity__in=Severity.values), name="standard_severity"),
            models.CheckConstraint(condition=Q(extras__in=Extras.values), name="standard_extras"),
            models.CheckConstraint(
                condition=Q(state="draft", published_at=None, published_by="")
                | ~Q(state="draft") & Q(published_at__isnull=False) & ~Q(published_by=""),
                name="standard_published_whole",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Its page."""
        return reverse("standard_detail", args=[self.name])


class Ring(models.Model):
    """Sites that follow the same standard. A site belongs to the first ring by position whose selector holds it.

    Every part of the selector that is set must fit; a ring without any holds all sites. A site's own `ring` counts
    as a label named `ring`.
    """

    name = models.CharField(max_length=64, unique=True, validators=[TEXT])
    slug = models.CharField(max_length=64, unique=True, validators=[SLUG, validate_free_slug])
    position = models.PositiveIntegerField(unique=True)
    labels = models.JSONField(default=dict, blank=True, validators=[validate_labels])
    regions = models.JSONField(default=list, blank=True)
    providers = models.JSONField(default=list, blank=True, help_text="Ids of providers.")
    note = models.CharField(max_length=500, blank=True, validators=[TEXT])
    changed_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["position"]

    def __str__(self) -> str:
        return self.name


class RingStandard(models.Model):
    """Which standard a ring has over a span; one open row a ring. `standard` None: from then on it has none."""

    ring = models.ForeignKey(Ring, on_delete=models.PROTECT, related_name="standards")
    standard = models.ForeignKey(Standard, on_delete=models.PROTECT, null=True, related_name="ring_spans")
    since = models.DateTimeField()
    until = models.DateTimeField(null=True)
    set_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=300)

    class Meta:
        ordering = ["-since", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["ring"], condition=Q(until=None), name="ring_standard_one_open"),
            models.CheckConstraint(condition=Q(until=None) | Q(until__gte=F("since")), name="ring_standard_span"),
        ]

    def __str__(self) -> str:
        return f"ring {self.ring_id} has standard {self.standard_id} since {self.since}"


class ComponentVerdict(models.Model):
    """A set of components compared with a standard, once for each distinct pair; every site with that set shares it.

    `architecture` is empty unless the standard names images by architecture. `differences` are
    [{kind, name, verb: missing or other, want: {version, digest}, have: {version, digest} or null}, ...].
    """

    standard = models.ForeignKey(Standard, on_delete=models.CASCADE, related_name="verdicts", db_index=False)
    component_set = models.ForeignKey(ComponentSet, on_delete=models.PROTECT, related_name="+", db_index=False)
    architecture = models.CharField(max_length=16, blank=True)
    verdict = models.CharField(max_length=8, choices=Compliance)
    differences = models.JSONField(default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["standard", "component_set", "architecture"], name="component_verdict_once")
        ]

    def __str__(self) -> str:
        return f"{self.component_set_id} is {self.verdict} with standard {self.standard_id}"


class SiteCompliance(models.Model):
    """How a site compares with the standard that it follows, as last judged; one row an active site.

    `since` is from when on this state holds against this standard, `proven_at` when the site last answered as of the
    judgement (for a reachable site SiteState.last_good_at goes on). `differences` are those of ComponentVerdict, and
    `stopped` and `unlisted` workloads; `began` says for each, by `kind/name`, since when.
    `checked_*` are what was judged.
    """

    site = models.OneToOneField(Site, on_delete=models.CASCADE, primary_key=True, related_name="compliance")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    ring = models.ForeignKey(Ring, on_delete=models.PROTECT, null=True, related_name="+")
    standard = models.ForeignKey(Standard, on_delete=models.PROTECT, null=True, related_name="+")
    state = models.CharField(max_length=8, choices=Compliance)
    since = models.DateTimeField()
    differences = models.JSONField(default=list)
    began = models.JSONField(default=dict)
    extras = models.JSONField(default=list, help_text="Names of containers that are not managed and not in it.")
    cause = models.CharField(max_length=16, choices=Cause, blank=True)
    cause_detail = models.CharField(max_length=300, blank=True)
    proven_at = models.DateTimeField(null=True)
    judged_at = models.DateTimeField()
    checked_set = models.CharField(max_length=71, blank=True)
    checked_boot = models.CharField(max_length=64, blank=True)
    checked_reachability = models.CharField(max_length=12, blank=True)

    class Meta:
        indexes = [models.Index(fields=["state", "since"], name="compliance_state")]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=Compliance.values), name="compliance_state"),
            models.CheckConstraint(condition=Q(cause__in=["", *Cause.values]), name="compliance_cause"),
        ]

    def __str__(self) -> str:
        return f"site {self.site_id}: {self.state}"


class ComplianceInterval(Fact):
    """A site's compliance with one standard over a span; the history that percentages are drawn from."""

    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="compliance_intervals", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    standard = models.ForeignKey(Standard, on_delete=models.PROTECT, null=True, related_name="+")
    state = models.CharField(max_length=8, choices=Compliance)

    class Meta:
        indexes = [
            models.Index(fields=["site", "valid_from"], name="compliance_interval_site"),
            models.Index(fields=["provider", "valid_from"], name="compliance_interval_provider"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(valid_to=None) | Q(valid_to__gte=F("valid_from")), name="compliance_interval_span"
            ),
            models.CheckConstraint(
                condition=Q(valid_to=None, closed_at=None) | Q(valid_to__isnull=False),
                name="compliance_interval_closed",
            ),
            models.UniqueConstraint(
                fields=["site"], condition=Q(valid_to=None, superseded_at=None), name="compliance_interval_one_open"
            ),
            models.CheckConstraint(condition=Q(state__in=Compliance.values), name="compliance_interval_state"),
        ]

    def __str__(self) -> str:
        return f"site {self.site_id} {self.state} from {self.valid_from}"


class DueSite(models.Model):
    """A site to be judged anew. Rows are added, by triggers and services, and taken by the pass; no two are one."""

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False)
    provider = models.ForeignKey(
        Provider, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )

    def __str__(self) -> str:
        return f"site {self.site_id} is due"
