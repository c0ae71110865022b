"""What metrics know without looking at every row: sums over executions that ended, who has a label, a few figures."""

from django.db import models

from apps.workflows.models.workflows import Workflow


class _Total(models.Model):
    """How often something ended in one way.

    `error_type` is empty where there was no error, `?` for one without a known type. `buckets` maps upper bounds in
    microseconds (empty: what lasted longer than each of them) to how many fell between that bound and the one before;
    kept apart, so that bounds may change from one version to the next.
    """

    class What(models.TextChoices):
        """What ended; of a wait in line, `step_id` is the name of the queue."""

        EXECUTION = "execution"
        TASK = "task"
        WAIT = "wait"

    what = models.CharField(max_length=9, choices=What.choices)
    step_id = models.CharField(max_length=110, blank=True)
    status = models.CharField(max_length=11, blank=True)
    error_type = models.CharField(max_length=20, blank=True)
    count = models.BigIntegerField(default=0)
    retries = models.BigIntegerField(default=0)
    microseconds = models.BigIntegerField(default=0)
    buckets = models.JSONField(default=dict)

    class Meta:
        abstract = True
        default_permissions = ()


class OutcomeTotal(_Total):
    """Of a workflow, over the executions that are marked as counted, pruned ones among them.

    Grows in the transaction that marks them.
    """

    pk = models.CompositePrimaryKey("workflow_id", "what", "step_id", "status", "error_type")
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="+", db_index=False)

    objects = models.Manager["OutcomeTotal"]()

    class Meta(_Total.Meta):
        pass

    def __str__(self) -> str:
        return f"{self.workflow_id} {self.what} {self.step_id} {self.status} {self.error_type}"


class GoneTotal(_Total):
    """What stays of the totals of deleted workflows, in series that others share: a counter that fell would seem reset.

    `heir` says under which label it is counted (`Heir` of the selectors).
    """

    pk = models.CompositePrimaryKey("heir", "what", "step_id", "status", "error_type")
    heir = models.UUIDField()

    objects = models.Manager["GoneTotal"]()

    class Meta(_Total.Meta):
        pass

    def __str__(self) -> str:
        return f"{self.heir} {self.what} {self.step_id} {self.status} {self.error_type}"


class MetricLabel(models.Model):
    """A workflow, or (with `step_id`) one of its steps, whose metrics have a label of their own.

    There is room for a bounded number. A label stays while its workflow does: a counter that moved would fall.
    """

    id = models.BigAutoField(primary_key=True)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="+")
    step_id = models.CharField(max_length=110, blank=True)
    admitted_at = models.DateTimeField()

    objects = models.Manager["MetricLabel"]()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["workflow", "step_id"], name="metric_label_once")]

    def __str__(self) -> str:
        return f"{self.workflow_id} {self.step_id}"


class Figure(models.Model):
    """A number of the platform's own that no other row tells, such as how many workers were lost."""

    name = models.CharField(max_length=100, primary_key=True)
    value = models.FloatField(default=0.0)

    objects = models.Manager["Figure"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
