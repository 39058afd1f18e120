"""Row-level security of scorecards: a provider reads its own."""

from django.db import migrations

from fleet.kit.rls import READ_ONLY, protect


class Migration(migrations.Migration):
    dependencies = [("slas", "0005_scorecards")]

    operations = [
        protect("slas_scorecard", grants=("SELECT", "INSERT", "UPDATE", "DELETE"), scoped_grants=READ_ONLY),
    ]
