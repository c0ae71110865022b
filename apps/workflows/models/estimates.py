"""What estimates rest on: past runs, what was learnt from them, what was served and what came of it. All bounded."""

from django.db import models
from django.db.models import Q

from apps.workflows.models.executions import Execution
from apps.workflows.models.workflows import Workflow


class PastRun(models.Model):
    """How a completed execution went, step by step, in seconds from its start. It outlives the execution's rows."""

    execution_id = models.UUIDField(primary_key=True, editable=False)  # no key of another table: that row may be pruned
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="past_runs", db_index=False)
    finished_at = models.DateTimeField()
    seconds = models.FloatField()
    steps = models.JSONField()  # selectors.estimates.history has the form

    objects = models.Manager["PastRun"]()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["workflow", "finished_at"], name="past_run_newest")]

    def __str__(self) -> str:
        return f"{self.execution_id} {self.seconds:g} s"


class Experience(models.Model):
    """What was learnt of one workflow's estimates: `calibration` as the estimator keeps it.

    `number` rises with every run that was taken in; whoever writes names the number that he read. Executions that
    ended up to `folded_until` were taken in, or will not be.
    """

    workflow = models.OneToOneField(Workflow, primary_key=True, on_delete=models.CASCADE, related_name="experience")
    number = models.IntegerField(default=0)
    folded_until = models.DateTimeField(null=True)
    calibration = models.JSONField(default=dict)

    objects = models.Manager["Experience"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.workflow_id} {self.number}"


class StepWeights(models.Model):
    """What the steps of a workflow count for in the percentage of executions whose ids are greater than this one's."""

    id = models.UUIDField(primary_key=True, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="step_weights", db_index=False)
    by_step = models.JSONField()

    objects = models.Manager["StepWeights"]()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["workflow", "-id"], name="step_weights_newest")]

    def __str__(self) -> str:
        return f"{self.workflow_id} {self.id}"


class Prediction(models.Model):
    """An estimate that was served, and what came of it: `left` is null until its execution has completed.

    `part` is how far along the execution seemed, in tenths: of each tenth the first one is kept. Times are in seconds.
    """

    pk = models.CompositePrimaryKey("execution_id", "part")
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="predictions", db_index=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="+", db_index=False)
    part = models.SmallIntegerField()
    at = models.DateTimeField()
    p10 = models.FloatField()
    p50 = models.FloatField()
    p90 = models.FloatField()
    method = models.CharField(max_length=40)
    left = models.FloatField(null=True)

    objects = models.Manager["Prediction"]()

    class Meta:
        default_permissions = ()
        indexes = [
            models.Index(fields=["execution"], condition=Q(left__isnull=True), name="prediction_open"),
            models.Index(fields=["workflow", "-at"], name="prediction_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.execution_id} {self.part} {self.p50:g} s"


class PredictionTotal(models.Model):
    """A sum over all predictions with an outcome, by its name; it grows in the transaction that records the outcome."""

    name = models.CharField(max_length=40, primary_key=True)
    value = models.FloatField(default=0.0)

    objects = models.Manager["PredictionTotal"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} {self.value:g}"
