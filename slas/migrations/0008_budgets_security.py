"""Row-level security of budgets and their alerts: the pass writes them, a provider reads its own."""

from django.db import migrations

from fleet.kit.rls import READ_ONLY, protect


class Migration(migrations.Migration):
    dependencies = [("slas", "0007_budgets")]

    operations = [
        protect("slas_budget", scoped_grants=READ_ONLY),
        protect("slas_burnalert", grants=("SELECT", "INSERT", "UPDATE"), scoped_grants=READ_ONLY),
    ]
