"""Admin pages of what the engine keeps: to read, search and filter, and to cancel.

Only services write these tables, so there is nothing to add, change or delete here; grants are in `admin_grants`.
"""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

from apps.accounts.admin_base import PermissionModelAdmin
from apps.accounts.audit import record
from apps.accounts.permissions import Permission as P
from apps.core.errors import PlatformError
from apps.workflows import admin_grants, admin_vault  # noqa: F401 (their pages register themselves)
from apps.workflows.engine.breaker import Policy
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.models import (
    CircuitBreaker,
    Execution,
    Lane,
    Notification,
    Performer,
    RateLimit,
    Receiver,
    Schedule,
    Task,
    Webhook,
    Workflow,
    WorkflowVersion,
)
from apps.workflows.selectors import performers
from apps.workflows.services import breakers, executions


class ReadOnlyAdmin(PermissionModelAdmin):
    """Rows that only the engine writes: `permissions` may name `view` and nothing else."""

    show_full_result_count = False  # counting millions of rows to show a hundred
    list_per_page = 50
    actions: Any = None

    sealed: tuple[str, ...] = ()  # fields that nobody is shown, not even as they are stored

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:  # noqa: ARG002
        """Every field that may be shown."""
        shown = [field.name for field in self.model._meta.fields if field.name not in self.sealed]
        return shown + list(self.readonly_fields)

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:  # noqa: ARG002
        """What is sealed."""
        return self.sealed


def _page_of(name: str, *args: Any) -> str:
    """A link to a page under `/ui/`; empty where this installation serves no pages."""
    try:
        return format_html('<a href="{}">open</a>', reverse(name, args=args))
    except NoReverseMatch:
        return ""


class VersionInline(admin.TabularInline):  # type: ignore[type-arg]  # no generic at run time
    """The versions of a workflow: immutable."""

    model = WorkflowVersion
    fields = readonly_fields = ("number", "created_at", "created_by", "checksum", "definition")
    ordering = ("-number",)
    extra = 0
    can_delete = False
    show_change_link = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Whoever sees the workflow: the page around it has asked."""
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """A version is made by saving a definition through the API."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Never."""
        return False


@admin.register(Workflow)
class WorkflowAdmin(ReadOnlyAdmin):
    """Workflows with their versions."""

    permissions: ClassVar[dict[str, P]] = {"view": P.WORKFLOW_READ}
    list_display = ("name", "slug", "kind", "version_number", "owner", "updated_at", "page")
    list_filter = ("kind", ("owner", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("owner",)
    search_fields = ("name", "slug", "description", "owner__username")
    ordering = ("-updated_at", "-id")
    inlines = (VersionInline,)
    readonly_fields = ("page",)

    @admin.display(description="page")
    def page(self, workflow: Workflow) -> str:
        """Its page for people."""
        return _page_of("ui-workflow", workflow.slug)


@admin.register(Execution)
class ExecutionAdmin(ReadOnlyAdmin):
    """Executions; the action asks them to stop."""

    permissions: ClassVar[dict[str, P]] = {"view": P.WORKFLOW_READ}
    list_display = ("workflow", "status", "progress", "page", "requested_by", "created_at", "finished_at", "id")
    list_filter = ("status", "created_at")  # a workflow is found by the search: there may be thousands
    list_select_related = ("workflow", "requested_by")
    search_fields = ("id", "workflow__slug", "workflow__name", "requested_by__username", "trace_id")
    ordering = ("-id",)
    readonly_fields = ("page",)
    actions = ("cancel",)

    @admin.display(description="progress", ordering="percent")
    def progress(self, execution: Execution) -> str:
        """Percent; none of what failed or was cancelled, where steps that never ran count as ended."""
        told = execution.status == Status.COMPLETED or execution.status not in TERMINAL
        return f"{execution.percent:.0f} %" if told else "–"

    @admin.display(description="page")
    def page(self, execution: Execution) -> str:
        """Its page for people, with live bars."""
        return _page_of("ui-execution", execution.pk)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether the action is offered; each execution is asked again."""
        return Execution.objects.visible_to(request.user, P.TASK_DELETE).exists()

    @admin.action(description="Cancel the selected executions", permissions=["cancel"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[Execution]) -> None:
        """Ask each to stop and say what came of it; one that refuses does not keep the others."""
        allowed = set(Execution.objects.visible_to(request.user, P.TASK_DELETE).filter(pk__in=chosen).values_list("pk"))
        asked = 0
        for execution in chosen.order_by("id"):
            if (execution.pk,) not in allowed:
                self.message_user(request, f"{execution.pk}: this needs {P.TASK_DELETE.value}.", messages.ERROR)
                continue
            try:
                with transaction.atomic():
                    executions.cancel(execution, by=request.user)  # type: ignore[arg-type]  # the site lets in users only
                    record("execution.cancel", obj=execution)
            except PlatformError as refusal:
                self.message_user(request, f"{execution.pk}: {refusal.detail}.", messages.WARNING)
            else:
                asked += 1
        if asked:
            self.message_user(request, f"{asked} asked to stop.", messages.SUCCESS)


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    """Tasks: where each step of each execution is, and who holds it."""

    permissions: ClassVar[dict[str, P]] = {"view": P.TASK_READ}
    list_display = (
        "step_id", "execution_id", "status", "queue", "fence", "failures", "losses", "lease_owner", "started_at",
        "finished_at", "page",
    )  # fmt: skip
    list_filter = ("status", "queue", "started_at")
    search_fields = ("step_id", "lease_owner", "execution__id", "execution__workflow__slug")
    ordering = ("-id",)
    raw_id_fields = ("execution",)
    readonly_fields = ("page",)
    holder = "lease_owner"  # names performers, who are not everybody's to know

    @admin.display(description="page")
    def page(self, task: Task) -> str:
        """The page of its execution."""
        return _page_of("ui-execution", task.execution_id)

    def get_list_display(self, request: HttpRequest) -> Any:
        """Its holder for those who may read performers of each kind."""
        return self._shown(request, super().get_list_display(request))

    def get_search_fields(self, request: HttpRequest) -> Any:
        """As it is shown: a search finds nothing by what it does not show."""
        return self._shown(request, super().get_search_fields(request))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """As it is shown in lists."""
        return list(self._shown(request, super().get_readonly_fields(request, obj)))

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:  # noqa: ARG002
        """The holder, where it is not shown."""
        return () if performers.Names(request.user).all else (self.holder,)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Nor is anything found by it in the address."""
        asked = lookup.split("__", maxsplit=1)[0] == self.holder
        return super().lookup_allowed(lookup, value, request) and (not asked or performers.Names(request.user).all)

    def _shown(self, request: HttpRequest, names: Any) -> tuple[str, ...]:
        return tuple(name for name in names if name != self.holder or performers.Names(request.user).all)


@admin.register(Schedule)
class ScheduleAdmin(ReadOnlyAdmin):
    """Schedules: when each comes next, and what became of its last moment."""

    permissions: ClassVar[dict[str, P]] = {"view": P.WORKFLOW_READ}
    list_display = (
        "name", "workflow", "cron", "timezone", "paused", "next_at", "last_at", "last_outcome", "last_error", "owner",
    )  # fmt: skip
    list_filter = ("paused", "last_outcome", "catch_up", "overlap")
    list_select_related = ("workflow", "owner")
    search_fields = ("name", "workflow__slug", "owner__username")
    ordering = ("-id",)


@admin.register(Performer)
class PerformerAdmin(ReadOnlyAdmin):
    """Workers and agents, and when each was last heard of."""

    permissions: ClassVar[dict[str, P]] = {"view": P.SYSTEM_READ}
    list_display = ("name", "kind", "load", "slots", "draining", "started_at", "seen_at")
    list_filter = ("kind", "draining")
    search_fields = ("name",)
    ordering = ("-seen_at", "name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Performer]:
        """Agents only for those who may read agents."""
        return super().get_queryset(request).filter(kind__in=performers.Names(request.user).kinds)


@admin.register(Lane)
class LaneAdmin(ReadOnlyAdmin):
    """Lanes: queues with what their steps ask of performers. They are paused at `/queues/{name}/pause`."""

    permissions: ClassVar[dict[str, P]] = {"view": P.SYSTEM_READ}
    list_display = ("key", "queue", "requires", "prefers", "paused")
    list_filter = ("paused",)
    search_fields = ("key", "queue")
    ordering = ("queue", "key")


@admin.register(RateLimit)
class RateLimitAdmin(ReadOnlyAdmin):
    """Rate limits, and when each lets the next start conform."""

    permissions: ClassVar[dict[str, P]] = {"view": P.SYSTEM_READ}
    list_display = ("name", "free_at")
    list_filter = ("free_at",)
    search_fields = ("name",)
    ordering = ("name",)


@admin.register(CircuitBreaker)
class CircuitBreakerAdmin(ReadOnlyAdmin):
    """Circuit breakers. Their thresholds may be fixed here; they are opened and reset at `/circuit-breakers`."""

    permissions: ClassVar[dict[str, P]] = {"view": P.MONITORING_READ, "change": P.MONITORING_UPDATE}
    thresholds = ("open_failures", "open_ratio", "window_seconds", "open_seconds", "fixed")
    list_display = ("name", "state", "since", "reason", "probe_at", "failed_total", "succeeded_total", "fixed")
    list_filter = ("state", "fixed")
    search_fields = ("name",)
    ordering = ("name",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """All but the thresholds."""
        return [name for name in super().get_readonly_fields(request, obj) if name not in self.thresholds]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: ARG002
        """Through the service: the breaker may have moved since the form was shown."""
        policy = Policy(
            failures=obj.open_failures, ratio=obj.open_ratio, window_seconds=obj.window_seconds,
            open_seconds=obj.open_seconds,
        )  # fmt: skip
        breakers.fix(obj.pk, policy if obj.fixed else None)


@admin.register(Webhook)
class WebhookAdmin(ReadOnlyAdmin):
    """Doors for signed requests; their secrets are shown to nobody."""

    permissions: ClassVar[dict[str, P]] = {"view": P.WORKFLOW_READ}
    list_display = ("name", "workflow", "paused", "last_at", "owner", "created_at")
    list_filter = ("paused", "created_at")
    list_select_related = ("workflow", "owner")
    search_fields = ("name", "workflow__slug", "owner__username")
    ordering = ("-id",)
    sealed = ("secret",)


@admin.register(Receiver)
class ReceiverAdmin(ReadOnlyAdmin):
    """Receivers of notifications; where they are and their secrets are shown to nobody."""

    permissions: ClassVar[dict[str, P]] = {"view": P.SYSTEM_READ}
    list_display = ("name", "kind", "owner", "created_at", "updated_at")
    list_filter = ("kind",)
    list_select_related = ("owner",)
    search_fields = ("name", "owner__username")
    ordering = ("name",)
    sealed = ("target", "secret")


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    """The ends of executions, as receivers are to be told of them."""

    permissions: ClassVar[dict[str, P]] = {"view": P.SYSTEM_READ}
    list_display = ("receiver_name", "execution_id", "attempts", "next_at", "delivered_at", "last_error", "created_at")
    list_filter = ("receiver_name", "delivered_at", "created_at")
    search_fields = ("receiver_name", "execution__id", "execution__workflow__slug")
    ordering = ("-id",)
    raw_id_fields = ("execution",)
