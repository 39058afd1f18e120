"""Row-level security of mails: a provider sees the schedules that mail to it, and its own addresses and mails alone.

Of what is to be told to other systems, its own transactions leave its own rows; what is told takes them away.
"""

from django.db import migrations

from fleet.kit.rls import APPEND_ONLY, READ_ONLY, protect

OWN = "EXISTS (SELECT 1 FROM slas_mailrecipient r WHERE r.schedule_id = slas_mailschedule.id)"


class Migration(migrations.Migration):
    dependencies = [("slas", "0017_mailing_and_events")]

    operations = [
        protect("slas_mailschedule", grants=("SELECT", "INSERT", "UPDATE"), scoped_grants=READ_ONLY, scoped=OWN),
        protect("slas_mailrecipient", scoped_grants=READ_ONLY),
        protect("slas_maildelivery", grants=("SELECT", "INSERT", "UPDATE"), scoped_grants=READ_ONLY),
        protect("slas_outboxevent", scoped_grants=APPEND_ONLY),
    ]
