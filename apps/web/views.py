"""The pages: find what was asked for, hand it to a template. Nothing here writes."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.accounts.permissions import Permission
from apps.web import selectors
from apps.web.gate import page


@page(Permission.WORKFLOW_READ)
@never_cache
@require_safe
def start(request: HttpRequest) -> HttpResponse:
    """What runs now, what ended last, who performs it."""
    return render(request, "ui/start.html", selectors.start(request.user, base=request.build_absolute_uri("/")[:-1]))


@page(Permission.WORKFLOW_READ)
@never_cache
@require_safe
def execution(request: HttpRequest, execution_id: UUID) -> HttpResponse:
    """One execution: its steps with live bars, its journal, what went in and what came out."""
    return render(request, "ui/execution.html", selectors.execution(request.user, execution_id))


@page(Permission.WORKFLOW_READ)
@never_cache
@require_safe
def workflow(request: HttpRequest, slug: str) -> HttpResponse:
    """One workflow: its definition and its last executions."""
    context = selectors.workflow(request.user, slug, base=request.build_absolute_uri("/")[:-1])
    return render(request, "ui/workflow.html", context)
