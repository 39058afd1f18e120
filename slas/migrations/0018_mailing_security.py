"""Row-level security of mails: a provider sees the schedules that mail to it, and its own addresses and mails alone."""

from django.db import migrations

from fleet.kit.rls import READ_ONLY, protect

OWN = "EXISTS (SELECT 1 FROM slas_mailrecipient r WHERE r.schedule_id = slas_mailschedule.id)"


class Migration(migrations.Migration):
    dependencies = [("slas", "0017_mailing")]

    operations = [
        protect("slas_mailschedule", grants=("SELECT", "INSERT", "UPDATE"), scoped_grants=READ_ONLY, scoped=OWN),
        protect("slas_mailrecipient", scoped_grants=READ_ONLY),
        protect("slas_maildelivery", grants=("SELECT", "INSERT", "UPDATE"), scoped_grants=READ_ONLY),
    ]
