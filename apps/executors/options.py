"""What the executors must know of the server's settings, as one value: they read no environment themselves."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from apps.core.errors import Invalid

SERVER_SECRETS = (
    "SECRET_KEY",
    "JWT_SIGNING_KEY",
    "JWT_SIGNING_KEYS_OLD",
    "VAULT_KEYS",
    "ADMIN_PASSWORD",
    "DATABASE_URL",
    "REDIS_URL",
    "CELERY_BROKER_URL",
    "LLM_API_KEY",
    "ARTIFACT_STORAGE_URL",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "OIDC_CLIENT_SECRET",
    "EMAIL_HOST_PASSWORD",
    "ALERT_PAGER",
    "ALERT_OPERATORS",
    "ALERT_WATCHDOG",
    "DAGGER_SESSION_TOKEN",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
)
"""Variables of the server that no step's process is ever given."""

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the processes of a command may use at most; 0 is no limit.

    `memory_bytes` (data), `cpu_seconds` and `file_bytes` (of one file) hold for each process, `processes` for all of a
    sandboxed command together.
    """

    memory_bytes: int = 4 << 30
    cpu_seconds: int = 0
    file_bytes: int = 4 << 30
    open_files: int = 1024
    processes: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How steps may be performed here. Raises Invalid naming the setting that is wrong.

    `work_dir` is where private working directories are made; `data_dir` is where the server keeps its database and
    keys: no sandbox and no container is ever shown it. Sizes are in bytes: `max_log_bytes` and `max_artifact_bytes`
    (of all files that it leaves) per attempt; `children` is how many synchronous callables run at once;
    `http_allowed_hosts` are `host` or `host:port` that an HTTP step may reach although their address is internal.
    `volume_roots` are the directories of the host that containers may mount; `docker_host`, `dagger_port` and
    `dagger_token` say where the runtime is; `installation` tells the containers of this installation from those of
    others on the same runtime. Of commands `limits` holds for each process, and a sandboxed one may read the paths
    `sandbox_read` besides `/usr`, write beneath `sandbox_write`, and reach the network with `sandbox_network`.
    """

    work_dir: Path
    data_dir: Path | None = None
    process_steps: Literal["trusted", "off", "sandboxed"] = "off"
    callable_modules: tuple[str, ...] = ()
    container_runtime: Literal["none", "dagger", "docker"] = "none"
    volume_roots: tuple[Path, ...] = ()
    docker_host: str = ""
    dagger_port: int | None = None
    dagger_token: str = field(default="", repr=False)
    installation: str = ""
    http_allowed_hosts: frozenset[str] = field(default_factory=frozenset)
    limits: Limits = field(default_factory=Limits)
    sandbox_read: tuple[str, ...] = ()
    sandbox_write: tuple[str, ...] = ()
    sandbox_network: bool = False
    max_output_bytes: int = 1 << 20
    max_artifact_bytes: int = 1 << 30
    max_log_bytes: int = 4 << 20
    children: int = 16

    def __post_init__(self) -> None:
        for module in self.callable_modules:
            if not _MODULE.fullmatch(module):
                raise Invalid(f"CALLABLE_MODULES: {module!r} is not the dotted name of a Python module.")
        for setting, paths in (
            ("PROCESS_SANDBOX_READ", self.sandbox_read),
            ("PROCESS_SANDBOX_WRITE", self.sandbox_write),
        ):
            for path in map(Path, paths):
                if not path.is_absolute() or self.would_show_ours(path):
                    message = "is no absolute path, or it would show the server's own data or processes"
                    raise Invalid(f"{setting}: {str(path)!r} {message}: name other directories.")
        for name in ("max_output_bytes", "max_log_bytes", "children"):
            if getattr(self, name) < 1:
                raise Invalid(f"{name} must be 1 or more.")

    def would_show_ours(self, path: Path) -> bool:
        """Whether `path`, wherever its links lead, shows the server's database, keys, directories or processes."""
        real = path.resolve()
        ours = [place.resolve() for place in (self.data_dir, self.work_dir, Path("/proc")) if place is not None]
        return any(real.is_relative_to(place) or place.is_relative_to(real) for place in ours)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` as the team's own trusted code may see it."""
    return {name: value for name, value in environment.items() if name not in SERVER_SECRETS}
