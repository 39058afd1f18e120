"""Row-level security of reports: a provider sees those of its contracts, and of each revision its own part alone."""

from django.db import migrations

from fleet.kit.rls import APPEND_ONLY, READ_ONLY, protect

OWN = "EXISTS (SELECT 1 FROM slas_segment g WHERE g.contract_id = slas_report.contract_id)"
PART = "EXISTS (SELECT 1 FROM slas_reportpart p WHERE p.revision_id = slas_reportrevision.id)"


class Migration(migrations.Migration):
    dependencies = [("slas", "0012_reports")]

    operations = [
        protect("slas_report", grants=("SELECT", "INSERT", "UPDATE"), scoped_grants=READ_ONLY, scoped=OWN),
        protect("slas_reportrevision", grants=APPEND_ONLY, scoped_grants=READ_ONLY, scoped=PART),
        protect("slas_reportpart", grants=APPEND_ONLY, scoped_grants=READ_ONLY),
        protect("slas_decision", grants=APPEND_ONLY, scoped_grants=READ_ONLY),
    ]
