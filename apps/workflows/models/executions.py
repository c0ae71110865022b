"""Execution, its tasks, its journal and its logs.

Only `services` writes these tables (a contract test says so). The task row is the queue item: there is no other queue.
"""

from django.conf import settings
from django.db import models
from django.db.models import Q

from apps.workflows.engine import states
from apps.workflows.engine.ids import new_execution_id
from apps.workflows.models.gate import GatedQuerySet
from apps.workflows.models.workflows import Workflow, WorkflowVersion

_TERMINAL = sorted(status.value for status in states.TERMINAL)
_CLAIMABLE = sorted(status.value for status in states.CLAIMABLE)
STATUS_CHOICES = [(status.value, status.value) for status in states.Status]


class Trigger(models.TextChoices):
    """Why an execution was made."""

    CALLER = "caller"
    RETRY = "retry"
    FORK = "fork"
    SCHEDULE = "schedule"
    WEBHOOK = "webhook"
    WORKFLOW = "workflow"


class Execution(models.Model):
    """One run of one version.

    `seq` is the number of the last event of its journal; `revision` rises with every transaction that changes the
    execution or a task of it, so whoever finds it unchanged knows all of it to be unchanged (but for deadlines of
    leases, which only their owners move). `open_tasks` and `failed_tasks` are counts, kept so that a report need not
    look at all tasks. `ready_at` is never later than the moment its next task may start, null when none can (or may: it
    is paused, or held back by a limit); it moves back when some of its tasks were claimed. `rank` is its place in the
    line of its workflow: `ready_at`, brought forward by its priority.
    """

    id = models.UUIDField(primary_key=True, default=new_execution_id, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="executions", db_index=False)
    version = models.ForeignKey(WorkflowVersion, on_delete=models.PROTECT, related_name="+")
    status = models.CharField(max_length=11, choices=STATUS_CHOICES, default=states.Status.PENDING.value)
    priority = models.SmallIntegerField(default=0)
    inputs = models.JSONField(default=dict)
    outputs = models.JSONField(null=True)
    error = models.JSONField(null=True)
    message = models.CharField(max_length=1000, blank=True)
    percent = models.FloatField(default=0.0)
    points = models.FloatField(default=0.0)  # the sum of its tasks' percentages
    seq = models.BigIntegerField(default=0)
    revision = models.BigIntegerField(default=0)
    tasks_total = models.IntegerField(default=0)
    open_tasks = models.IntegerField(default=0)
    failed_tasks = models.IntegerField(default=0)
    ready_at = models.DateTimeField(null=True)
    rank = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField(null=True)
    # Held back by the limit on executions with this key (of one workflow) until one of them ends.
    held = models.BooleanField(default=False)
    concurrency_key = models.CharField(max_length=1000, blank=True)
    signals = models.JSONField(default=dict)  # name → payload of each signal that came
    # The task whose step this execution is; `owes_parent` until that task has been told of its end.
    parent_task = models.ForeignKey(
        "workflows.Task", null=True, on_delete=models.SET_NULL, related_name="children", db_index=False
    )
    owes_parent = models.BooleanField(default=False)
    # Whether it has ended and is part of `OutcomeTotal`.
    counted = models.BooleanField(default=False)
    # What made it: the retry or fork of another execution, a schedule's moment, a webhook; else a caller.
    trigger = models.CharField(max_length=8, choices=Trigger.choices, default=Trigger.CALLER)
    origin = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="descendants")
    schedule = models.ForeignKey(
        "workflows.Schedule", null=True, on_delete=models.SET_NULL, related_name="executions", db_index=False
    )
    scheduled_for = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    # 32 hexadecimal digits; allocated when the execution is created, so that every span of it can be joined.
    trace_id = models.CharField(max_length=32, blank=True)
    # 16 of the span of the request that asked for it, under which its own lies; empty where nobody's request did.
    trace_parent = models.CharField(max_length=16, blank=True, default="", db_default="")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    objects = GatedQuerySet["Execution"].as_manager()

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=sorted(status.value for status in states.EXECUTION_MOVES)),
                name="execution_status_is_known",
            ),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=False, ready_at__isnull=True, open_tasks=0, status__in=_TERMINAL)
                | (Q(finished_at__isnull=True) & ~Q(status__in=_TERMINAL)),
                name="execution_finished_when_terminal",
            ),
            models.CheckConstraint(
                condition=Q(open_tasks__gte=0) & Q(failed_tasks__gte=0) & Q(open_tasks__lte=models.F("tasks_total")),
                name="execution_counts_add_up",
            ),
            models.CheckConstraint(
                condition=Q(percent__gte=0) & (Q(percent=100, status="completed") | Q(percent__lt=100)),
                name="execution_percent_100_at_success",
            ),
            models.UniqueConstraint(
                fields=["schedule", "scheduled_for"],
                condition=Q(schedule__isnull=False),
                name="execution_once_a_moment",
            ),
            models.CheckConstraint(
                condition=Q(ready_at__isnull=True) | (Q(held=False) & ~Q(status="paused")),
                name="execution_in_line_only_if_let",
            ),
        ]
        indexes = [
            models.Index(fields=["workflow", "rank"], condition=Q(ready_at__isnull=False), name="execution_line"),
            models.Index(fields=["ready_at"], condition=Q(ready_at__isnull=False), name="execution_ready"),
            models.Index(fields=["workflow", "-id"], name="execution_newest"),
            models.Index(fields=["workflow", "status"], name="execution_by_status"),
            models.Index(fields=["status", "-id"], name="execution_status_newest"),
            models.Index(fields=["finished_at"], condition=Q(finished_at__isnull=False), name="execution_finished"),
            models.Index(fields=["deadline_at"], condition=Q(deadline_at__isnull=False), name="execution_deadline"),
            models.Index(
                fields=["workflow", "concurrency_key"],
                condition=~Q(concurrency_key="") & Q(finished_at__isnull=True),
                name="execution_concurrent",
            ),
            models.Index(fields=["parent_task"], condition=Q(parent_task__isnull=False), name="execution_parent"),
            models.Index(fields=["owes_parent"], condition=Q(owes_parent=True), name="execution_owes"),
            models.Index(fields=["status"], condition=Q(counted=False), name="execution_uncounted"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class TaskQuerySet(GatedQuerySet["Task"]):
    """Tasks a caller may see."""

    path = "execution__workflow"


class Task(models.Model):
    """One step inside one execution; the unit that is queued, leased, attempted and retried.

    `step_id` is the id of its step, with the number of its item where it is one of many: `load[7]`.
    `waiting_on` counts the dependencies that are not yet terminal, `met` those that ended as its `on` asks; once a
    step with `for_each` has been opened, both count its `items` instead: those not yet ended, those that completed.
    `fence` rises at every claim and names the current lease; `failures` and `losses` are the two retry budgets spent.
    A task may be claimed when its status is pending or waiting and `ready_at` has come. `waiting_for` names what else
    it waits for; `due_at` is when the engine itself acts on it (a timer, a time limit).
    """

    id = models.UUIDField(primary_key=True, editable=False)  # engine.ids.task_id
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="tasks", db_index=False)
    step_id = models.CharField(max_length=110)
    status = models.CharField(max_length=11, choices=STATUS_CHOICES, default=states.Status.PENDING.value)
    queue = models.CharField(max_length=64, default="default")
    lane = models.CharField(max_length=64, default="default")  # `Lane.key`
    waiting_on = models.IntegerField(default=0)
    met = models.IntegerField(default=0)
    fence = models.BigIntegerField(default=0)
    failures = models.IntegerField(default=0)
    losses = models.IntegerField(default=0)
    ready_at = models.DateTimeField(null=True)
    waiting_for = models.CharField(max_length=110, blank=True)
    due_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)  # the end of `total_timeout_seconds`, from the first attempt on
    items = models.IntegerField(default=0)
    next_item = models.IntegerField(default=0)  # the first item that has no task yet
    item = models.JSONField(null=True)  # of a step with `for_each` its list, of one of its tasks the item
    lease_owner = models.CharField(max_length=100, blank=True)
    lease_expires_at = models.DateTimeField(null=True)
    percent = models.FloatField(default=0.0)
    message = models.CharField(max_length=1000, blank=True)
    outputs = models.JSONField(null=True)
    error = models.JSONField(null=True)
    queued_at = models.DateTimeField(null=True)  # since when the current attempt could have been started
    started_at = models.DateTimeField(null=True)  # of the current attempt
    finished_at = models.DateTimeField(null=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["execution", "step_id"], name="task_once_a_step"),
            models.CheckConstraint(
                condition=Q(status__in=sorted(status.value for status in states.TASK_MOVES)),
                name="task_status_is_known",
            ),
            models.CheckConstraint(
                condition=(Q(status="in_progress") & Q(lease_expires_at__isnull=False))
                | (~Q(status="in_progress") & Q(lease_expires_at__isnull=True)),
                name="task_leased_while_in_progress",
            ),
            models.CheckConstraint(
                condition=Q(ready_at__isnull=True) | Q(status__in=_CLAIMABLE), name="task_ready_only_if_claimable"
            ),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=False, status__in=_TERMINAL)
                | (Q(finished_at__isnull=True) & ~Q(status__in=_TERMINAL)),
                name="task_finished_when_terminal",
            ),
        ]
        indexes = [
            models.Index(fields=["execution", "ready_at"], condition=Q(ready_at__isnull=False), name="task_ready"),
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="task_due"),
            models.Index(fields=["lease_expires_at"], condition=Q(lease_expires_at__isnull=False), name="task_lease"),
        ]

    def __str__(self) -> str:
        return f"{self.execution_id}/{self.step_id}"


class EventQuerySet(GatedQuerySet["Event"]):
    """Events a caller may see."""

    path = "execution__workflow"


class Event(models.Model):
    """A fact in an execution's journal: append-only, `seq` 1..n without gaps."""

    pk = models.CompositePrimaryKey("execution_id", "seq")
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="events", db_index=False)
    seq = models.BigIntegerField()
    type = models.CharField(max_length=40)
    step_id = models.CharField(max_length=110, blank=True)
    data = models.JSONField(default=dict)
    at = models.DateTimeField()

    objects = EventQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.execution_id} {self.seq} {self.type}"


class LogChunk(models.Model):
    """A piece of what a step wrote, numbered from 1 within its attempt."""

    pk = models.CompositePrimaryKey("task_id", "fence", "number")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="logs", db_index=False)
    fence = models.BigIntegerField()
    number = models.IntegerField()
    stream = models.CharField(max_length=6)
    text = models.TextField()
    at = models.DateTimeField()

    objects = models.Manager["LogChunk"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.task_id} {self.fence}.{self.number}"
