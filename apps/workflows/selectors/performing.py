"""What this installation can perform: its executors, their configuration schemas and the callables they know."""

from functools import cache

from django.conf import settings

from apps.executors import Executors, Options


def executor_options() -> Options:
    """The executors' options as the settings give them."""
    env = settings.ENV
    return Options(
        process_steps=settings.PROCESS_STEPS,
        callable_modules=env.CALLABLE_MODULES,
        container_runtime=settings.CONTAINER_RUNTIME,
        http_allowed_hosts=frozenset(env.HTTP_STEP_ALLOWED_HOSTS),
        work_dir=settings.DATA_DIR / "work",
        children=env.SLOTS,
        max_output_bytes=env.OUTPUT_MAX_BYTES,
    )


@cache
def executors() -> Executors:
    """The executors as a description; nothing is started by asking."""
    return Executors(executor_options())
