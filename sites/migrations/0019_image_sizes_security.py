"""Sizes of images are a provider's sites' word: whoever plans sees all of them, a provider its own."""

from django.db import migrations

from fleet.kit.rls import READ_ONLY, protect


class Migration(migrations.Migration):
    dependencies = [("edge_sites", "0018_image_sizes")]

    operations = [protect("edge_sites_imagesize", grants=("SELECT", "INSERT", "UPDATE"), scoped_grants=READ_ONLY)]
