"""Admin pages of what the engine keeps: to read, search and filter, and to cancel.

Only services write these tables, so there is nothing to add, change or delete here but grants, and those through them.
"""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

from apps.accounts.admin_base import PermissionModelAdmin
from apps.accounts.audit import record
from apps.accounts.permissions import Permission as P
from apps.core.errors import PlatformError
from apps.workflows import admin_vault  # noqa: F401 (its pages register themselves)
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
    WorkflowGroupPermission,
    WorkflowRolePermission,
    WorkflowUserPermission,
    WorkflowVersion,
)
from apps.workflows.selectors.grants import verbs_of
from apps.workflows.services import breakers, executions, grants


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

    @admin.display(description="page")
    def page(self, task: Task) -> str:
        """The page of its execution."""
        return _page_of("ui-execution", task.execution_id)


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


class GrantForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic at run time
    """A grant that the one who edits may give; the page sets `editor` on the class it makes for a request."""

    editor: Any = None

    def clean(self) -> dict[str, Any]:
        """What the service would refuse is said on the form."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "content_object" in cleaned and "permission" in cleaned:
            try:
                verb = cleaned["permission"].codename.partition(":")[2]
                grants.check_may_share(cleaned["content_object"], by=self.editor)
                grants.check_may_give(cleaned["content_object"], verb, by=self.editor)
            except PlatformError as refusal:
                raise ValidationError(refusal.detail) from None
        return cleaned


class GrantAdmin(PermissionModelAdmin):
    """Grants on single things: given and taken back by the rules of `/workflows/{id}/grants`."""

    permissions = dict.fromkeys(("view", "add", "delete"), P.SYSTEM_ADMIN)
    form = GrantForm
    to: ClassVar[str]
    list_filter = ("permission",)
    raw_id_fields = ("content_object",)
    actions = None

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form, told who edits."""
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.editor = request.user
        return form

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Only the permissions of what is shared."""
        if db_field.name == "permission":
            shared: Any = self.model._meta.get_field("content_object").related_model
            content_type = ContentType.objects.get_for_model(shared)
            kwargs["queryset"] = db_field.related_model.objects.filter(content_type=content_type)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not a grant of what the editor may not do himself."""
        if not super().has_delete_permission(request, obj) or obj is None:
            return super().has_delete_permission(request, obj)
        try:
            grants.check_may_give(obj.content_object, _verb(obj), by=request.user)  # type: ignore[arg-type]
        except PlatformError:
            return False
        return True

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: ARG002
        """Through the service; Django goes on with the row that it made."""
        self._write(request, obj, lambda verbs, verb: verbs | {verb})
        names = {self.to: getattr(obj, self.to), "permission": obj.permission, "content_object": obj.content_object}
        obj.__dict__.update(self.model._default_manager.get(**names).__dict__)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Through the service."""
        self._write(request, obj, lambda verbs, verb: verbs - {verb})

    def _write(self, request: HttpRequest, obj: Any, change: Any) -> None:
        to = getattr(obj, self.to)
        verbs = change(verbs_of(obj.content_object, to), _verb(obj))
        grants.grant(obj.content_object, to, verbs, by=request.user)  # type: ignore[arg-type]  # the site lets in users


def _verb(row: Any) -> str:
    return str(row.permission.codename).partition(":")[2]


@admin.register(WorkflowUserPermission)
class UserGrantAdmin(GrantAdmin):
    """What single people may do with single workflows."""

    to = "user"
    list_display = ("content_object", "user", "permission")
    list_select_related = ("content_object", "user", "permission__content_type")
    search_fields = ("content_object__slug", "content_object__name", "user__username")
    autocomplete_fields = ("user",)


@admin.register(WorkflowGroupPermission)
class GroupGrantAdmin(GrantAdmin):
    """What groups may do with single workflows."""

    to = "group"
    list_display = ("content_object", "group", "permission")
    list_select_related = ("content_object", "group", "permission__content_type")
    search_fields = ("content_object__slug", "content_object__name", "group__name")


@admin.register(WorkflowRolePermission)
class RoleGrantAdmin(GrantAdmin):
    """What all who have a role may do with single workflows."""

    to = "role"
    list_display = ("content_object", "role", "permission")
    list_select_related = ("content_object", "role", "permission__content_type")
    search_fields = ("content_object__slug", "content_object__name", "role__name")
