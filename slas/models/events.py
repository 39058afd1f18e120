"""What happened and is to be told to other systems; taken away by who tells it."""

from django.db import models
from django.db.models.functions import Now

from sites.models import Provider


class OutboxEvent(models.Model):
    """Something about SLAs of one provider. Written in the transaction of what happened, gone once it is told.

    `path` leads to its page, `data` is what a message says beside the provider.
    """

    kind = models.CharField(max_length=40)
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="+", db_index=False)
    path = models.CharField(max_length=200)
    data = models.JSONField()
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}"
