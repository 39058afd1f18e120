"""Accounts and sessions are what a scope is made from: every role of the application may use them."""

from django.db import migrations

from fleet.kit.rls import READ_ONLY, open_to_app


class Migration(migrations.Migration):
    dependencies = [
        ("people", "0001_initial"),
        ("account", "0009_emailaddress_unique_primary_email"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("sessions", "0001_initial"),
    ]

    operations = [
        open_to_app(
            "people_user",
            "people_user_groups",
            "people_user_user_permissions",
            "people_membership",
            "people_apitoken",
            "account_emailaddress",
            "account_emailconfirmation",
            "django_session",
        ),
        open_to_app("auth_group", "auth_group_permissions", "auth_permission", "django_content_type", grants=READ_ONLY),
    ]
