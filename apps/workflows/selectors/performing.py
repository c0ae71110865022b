"""What this installation can perform: its executors, their configuration schemas and the callables they know."""

import hashlib
import hmac
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db.models import Exists, OuterRef, Q

from apps.executors import Executors, Options
from apps.executors.container import chosen
from apps.executors.options import Limits
from apps.workflows.models import Execution, Task, Workflow


def executor_options() -> Options:
    """The executors' options as the settings give them."""
    env = settings.ENV
    return Options(
        process_steps=settings.PROCESS_STEPS,
        callable_modules=env.CALLABLE_MODULES,
        container_runtime=chosen(
            settings.CONTAINER_RUNTIME, dagger_port=env.DAGGER_SESSION_PORT or None, docker_host=env.DOCKER_HOST
        ),
        volume_roots=tuple(Path(root) for root in env.VOLUME_ROOTS),
        docker_host=env.DOCKER_HOST,
        dagger_port=env.DAGGER_SESSION_PORT or None,
        dagger_token=env.DAGGER_SESSION_TOKEN,
        installation=_installation(),
        http_allowed_hosts=frozenset(env.HTTP_STEP_ALLOWED_HOSTS),
        limits=Limits(
            memory_bytes=env.PROCESS_MEMORY_MIB << 20,
            cpu_seconds=env.PROCESS_CPU_SECONDS,
            file_bytes=env.PROCESS_FILE_MIB << 20,
            open_files=env.PROCESS_OPEN_FILES,
            processes=env.PROCESS_MAX_PROCESSES,
        ),
        sandbox_read=env.PROCESS_SANDBOX_READ,
        sandbox_write=env.PROCESS_SANDBOX_WRITE,
        sandbox_network=env.PROCESS_SANDBOX_NETWORK,
        work_dir=settings.DATA_DIR / "work",
        data_dir=settings.DATA_DIR,
        children=env.SLOTS,
        max_output_bytes=env.OUTPUT_MAX_BYTES,
        max_artifact_bytes=env.ARTIFACT_EXECUTION_BYTES,
    )


def held(attempts: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """Which of these attempts, each a task's id and the fencing number of its lease, are under lease."""
    wanted = set(attempts)
    ids = {identity for task, _ in wanted if (identity := _uuid(task)) is not None}
    rows = Task.objects.filter(id__in=ids, status="in_progress").values_list("id", "fence")
    return {(str(task), fence) for task, fence in rows} & wanted


def using_caches(workflows: Collection[str], now: datetime) -> set[str]:
    """Which of the workflows with these ids use what engines keep for them: they exist, and ran in RETENTION_DAYS."""
    since = now - timedelta(days=settings.ENV.RETENTION_DAYS)
    late = Execution.objects.filter(Q(finished_at__isnull=True) | Q(finished_at__gte=since), workflow=OuterRef("pk"))
    return set(Workflow.objects.filter(Exists(late), slug__in=workflows).values_list("slug", flat=True))


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


@cache
def _installation() -> str:
    """What all processes of this installation, and no other installation, call it; it tells nothing of the key."""
    return hmac.new(settings.SECRET_KEY.encode(), b"installation", hashlib.sha256).hexdigest()[:24]


@cache
def executors() -> Executors:
    """The executors as a description; nothing is started by asking."""
    return Executors(executor_options())
