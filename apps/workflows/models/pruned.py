"""What metrics must still know of executions that were pruned."""

from django.db import models


class PrunedTotal(models.Model):
    """A sum over pruned rows, by the name of what was summed and its labels; grows in the transaction that prunes."""

    pk = models.CompositePrimaryKey("name", "labels")
    name = models.CharField(max_length=100)
    labels = models.CharField(max_length=500)  # canonical JSON of the label values
    value = models.FloatField(default=0.0)

    objects = models.Manager["PrunedTotal"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} {self.labels}"
