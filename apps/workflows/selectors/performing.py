"""What this installation can perform: its executors, their configuration schemas and the callables they know."""

from functools import cache

from django.conf import settings

from apps.executors import Executors, Options
from apps.executors.options import Limits


def executor_options() -> Options:
    """The executors' options as the settings give them."""
    env = settings.ENV
    return Options(
        process_steps=settings.PROCESS_STEPS,
        callable_modules=env.CALLABLE_MODULES,
        container_runtime=settings.CONTAINER_RUNTIME,
        http_allowed_hosts=frozenset(env.HTTP_STEP_ALLOWED_HOSTS),
        limits=Limits(
            memory_bytes=env.PROCESS_MEMORY_MIB << 20,
            cpu_seconds=env.PROCESS_CPU_SECONDS,
            file_bytes=env.PROCESS_FILE_MIB << 20,
            open_files=env.PROCESS_OPEN_FILES,
            processes=env.PROCESS_MAX_PROCESSES,
        ),
        sandbox_read=env.PROCESS_SANDBOX_READ,
        sandbox_network=env.PROCESS_SANDBOX_NETWORK,
        work_dir=settings.DATA_DIR / "work",
        children=env.SLOTS,
    )


@cache
def executors() -> Executors:
    """The executors as a description; nothing is started by asking."""
    return Executors(executor_options())
