"""Reports: a contract over a period, revision by revision. What a revision says is never changed."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from sites.models import Provider
from slas.models.contracts import Contract
from slas.states import FileKind, Life


class Report(models.Model):
    """A contract over `[begins, ends)`, and where its making stands.

    While `wanted_at` is set it is to be made, or is being made since `started_at`; `due_at` is when a fact last changed
    that it rests on, `looked_at` as of when it was last computed, `problem` why it could not be.
    """

    contract = models.ForeignKey(Contract, on_delete=models.PROTECT, related_name="reports", db_index=False)
    period = models.CharField(max_length=24, help_text="As slas.periods reads it.")
    begins = models.DateTimeField()
    ends = models.DateTimeField()
    state = models.CharField(max_length=11, choices=[(one, one) for one in Life], blank=True)
    wanted_at = models.DateTimeField(null=True)
    wanted_by = models.CharField(max_length=150, blank=True)
    started_at = models.DateTimeField(null=True)
    looked_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-ends", "id"]
        constraints = [models.UniqueConstraint(fields=["contract", "period"], name="report_once")]
        indexes = [models.Index(fields=["wanted_at"], name="report_wanted", condition=~Q(wanted_at=None))]

    def __str__(self) -> str:
        return f"{self.period} of contract {self.contract_id}"


class ReportRevision(models.Model):
    """A report as known at `as_of`."""

    report = models.ForeignKey(Report, on_delete=models.PROTECT, related_name="revisions", db_index=False)
    number = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    state = models.CharField(max_length=11, choices=[(one, one) for one in Life])
    as_of = models.DateTimeField()
    made_at = models.DateTimeField()
    made_by = models.CharField(max_length=150)
    version = models.PositiveIntegerField(help_text="Of the contract.")
    tzdata = models.CharField(max_length=16)

    class Meta:
        ordering = ["report", "-number"]
        constraints = [models.UniqueConstraint(fields=["report", "number"], name="report_revision_once")]

    def __str__(self) -> str:
        return f"revision {self.number} of report {self.report_id}"


class ReportPart(models.Model):
    """What a revision says of one provider: all that this provider sees of it."""

    revision = models.ForeignKey(ReportRevision, on_delete=models.PROTECT, related_name="parts", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+")
    data = models.JSONField(help_text="As slas.reporting.paper writes it, but for its lines.")
    sha256 = models.CharField(max_length=64, help_text="Of all that it says, with its lines.")
    diff = models.JSONField(null=True, help_text="To the revision before: slas.reporting.diffing.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["revision", "provider"], name="report_part_once")]

    def __str__(self) -> str:
        return f"part of provider {self.provider_id} of revision {self.revision_id}"


class ReportFile(models.Model):
    """A part as a signed file: made from what the row holds, and never changed once it is.

    `content` is a bundle's payload, or a PDF file with a hole `[hole_begin, hole_end)` for its signature, of which
    `attributes` (DER) are what is signed. `certificate` and `root` (PEM) are of the key that is asked for `signature`:
    raw for a bundle, a CMS for a PDF file. `size_bytes` and `sha256` are those of the file (slas.exports.files). While
    `due_at` is set it is to be made, then; `problem` says why it is not made yet, or never will be.
    """

    part = models.ForeignKey(ReportPart, on_delete=models.PROTECT, related_name="files", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=6, choices=[(one, one) for one in FileKind])
    due_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)
    content = models.BinaryField(null=True)
    hole_begin = models.PositiveIntegerField(null=True)
    hole_end = models.PositiveIntegerField(null=True)
    attributes = models.BinaryField(null=True)
    certificate = models.TextField(blank=True)
    root = models.TextField(blank=True)
    signature = models.BinaryField(null=True)
    size_bytes = models.PositiveIntegerField(null=True)
    sha256 = models.CharField(max_length=64, blank=True)
    made_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["part", "kind"]
        indexes = [models.Index(fields=["due_at"], name="report_file_due", condition=~Q(due_at=None))]
        constraints = [
            models.UniqueConstraint(fields=["part", "kind"], name="report_file_once"),
            models.CheckConstraint(condition=Q(kind__in=[str(one) for one in FileKind]), name="report_file_kind"),
            models.CheckConstraint(
                condition=Q(made_at=None)
                | Q(content__isnull=False, signature__isnull=False, size_bytes__isnull=False, due_at=None, problem=""),
                name="report_file_made",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of part {self.part_id}"


class ReportLine(models.Model):
    """What a part says of one site: under an objective, and of one standard where that is about versions.

    `number` is its place in the list that `kind` names (slas.reporting.paper.LINES); the others are there to be sorted
    and searched by.
    """

    part = models.ForeignKey(ReportPart, on_delete=models.PROTECT, related_name="lines", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=8)
    number = models.PositiveIntegerField()
    measure = models.CharField(max_length=16)
    slug = models.CharField(max_length=64)
    name = models.CharField(max_length=200)
    verdict = models.CharField(max_length=12, blank=True)
    rank = models.FloatField(null=True, help_text="The worst has the lowest; none where there is no figure.")
    data = models.JSONField()

    class Meta:
        ordering = ["part", "kind", "number"]
        constraints = [models.UniqueConstraint(fields=["part", "kind", "number"], name="report_line_once")]
        indexes = [
            models.Index(fields=["part", "measure", "rank"], name="report_line_rank"),
            models.Index(fields=["part", "slug"], name="report_line_site"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.number} of part {self.part_id}"


class Decision(models.Model):
    """A manager's figure where the facts prove neither and the burden of proof is open; the newest counts."""

    report = models.ForeignKey(Report, on_delete=models.PROTECT, related_name="decisions")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+")
    measure = models.CharField(max_length=16)
    figure = models.DecimalField(
        max_digits=7, decimal_places=4, validators=[MinValueValidator(0), MaxValueValidator(100)], help_text="Per cent."
    )
    reason = models.CharField(max_length=300)
    made_by = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"decision {self.pk} on report {self.report_id}"
