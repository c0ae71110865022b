"""The environment, read once and typed: the only place that looks at `os.environ` for a setting.

`docs/settings.md` is generated from the descriptions below (`python scripts/docs.py`).
"""

import ipaddress
import os
import secrets
from collections.abc import Mapping
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from apps.executors.options import SERVER_SECRETS
from apps.workflows.engine.labels import LabelError, parse_labels

ROOT = Path(__file__).resolve().parent.parent
MIN_KEY_LENGTH = 32
NEVER_SHOWN = frozenset(
    {
        "VAULT_KEYS", "OIDC_CLIENT_SECRET", "ARTIFACT_STORAGE_URL", "ALERT_PAGER", "ALERT_OPERATORS", "ALERT_WATCHDOG",
        "DATABASE_URL", "REDIS_URL",
    }
)  # fmt: skip
"""Secrets that can be wrong: the line that refuses them does not repeat them."""


class UnsafeEnvironment(Exception):
    """A setting is wrong or unsafe; the text names each such setting, a line each."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(f"cannot start: {line}" for line in lines))
        self.lines = lines


def _split(value: Any) -> Any:
    """`a, b` as a tuple of its parts."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _is_origin(text: str) -> bool:
    """Whether it is a scheme with a host, and nothing behind."""
    url = urlsplit(text)
    plain = text == f"{url.scheme}://{url.netloc}" and "@" not in text
    return bool(url.scheme in ("http", "https") and url.hostname and plain)


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Environment(BaseModel):
    """Every setting an operator may give, with its type, default and meaning."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    PORT: int = Field(8000, ge=1, le=65535, description="Port of the server.")
    HOST: str = Field("127.0.0.1", description="Address the server listens on; `0.0.0.0` in a container.")
    DATA_DIR: Path = Field(ROOT / "data", description="Everything kept on disk: SQLite, generated keys, sockets.")
    DATABASE_URL: str = Field("", description="`postgres://user:password@host/name`; empty: SQLite in `DATA_DIR`.")
    REDIS_URL: str = Field(
        "", description="Cache that server processes share (rate limits, tickets), and a doorbell across hosts."
    )
    SERVER_PROCESSES: int = Field(
        1,
        ge=1,
        description="How many server processes you start on this installation; more than one needs `REDIS_URL`.",
    )
    SECRET_KEY: str = Field("", description="Signs sessions. Development: generated into `DATA_DIR`.")
    JWT_SIGNING_KEY: str = Field("", description="Signs access tokens. Development: generated into `DATA_DIR`.")
    JWT_SIGNING_KEYS_OLD: Names = Field(
        (), description="Former keys whose tokens still hold; take one out when its refresh tokens (7 days) have ended."
    )
    VAULT_KEYS: Names = Field(
        (), description="Fernet keys that seal secrets at rest, newest first; empty: a key derived from `SECRET_KEY`."
    )
    ADMIN_PASSWORD: str = Field("", description="Password of the user `admin` when it is first made; empty: generated.")
    ALLOWED_HOSTS: Names = Field((), description="Host names the server answers to. Development: the loopback names.")
    CORS_ALLOWED_ORIGINS: Names = Field((), description="Origins whose pages may call the API, with scheme.")
    TRUSTED_PROXIES: Names = Field((), description="Addresses of proxies whose `X-Forwarded-For` is believed.")
    ANONYMOUS_ROLE: str = Field("", description="Role of callers without credentials; empty: none. The demo: `guest`.")
    BROWSABLE_API: bool = Field(True, description="HTML pages of the API for a browser with a session.")
    RATE_LIMIT_ENABLED: bool = Field(True, description="Rate limits on the API and on failed logins.")
    RATE_LIMIT_USER: str = Field("6000/m", pattern=r"^\d+/[smhd]$", description="Requests of one caller.")
    RATE_LIMIT_TOKEN: str = Field(
        "3000/m", pattern=r"^\d+/[smhd]$", description="Requests of one API token; they count for its owner as well."
    )
    RATE_LIMIT_LOGIN: str = Field("10/m", pattern=r"^\d+/[smhd]$", description="Failed logins from one address.")
    TOTP_ENABLED: bool = Field(False, description="Accounts may turn on a second factor: codes of an app (TOTP).")
    OIDC_ISSUER: str = Field("", description="OpenID Connect provider people may log in with; empty: none.")
    OIDC_CLIENT_ID: str = Field("", description="What the provider calls this installation.")
    OIDC_CLIENT_SECRET: str = Field("", description="The secret that goes with it.")
    OIDC_NAME: str = Field("single sign-on", max_length=40, description="The provider's name on the login page.")
    OIDC_ROLE: str = Field(
        "", description="Role of accounts made at a first login with the provider; empty: none are made."
    )
    WORKERS: int = Field(2, ge=0, le=64, description="Worker processes that `make run` starts.")
    SLOTS: int = Field(16, ge=1, le=1000, description="Steps that one worker performs at a time.")
    LEASE_SECONDS: float = Field(30.0, ge=1, le=3600, description="How long a silent worker keeps its steps.")
    WORKER_LABELS: str = Field("", description="Labels of the workers started here: `gpu=2,region=eu,ssd`.")
    RETENTION_DAYS: int = Field(
        30, ge=1, le=36500, description="How long ended executions are kept; the newest 20 completed ones always."
    )
    LOG_RETENTION_DAYS: int = Field(14, ge=1, le=36500, description="How long what steps wrote is kept.")
    OUTPUT_INLINE_BYTES: int = Field(
        1 << 20,
        ge=4096,
        le=1 << 24,
        description="Outputs of a step up to so many bytes stay in the database; larger ones are spilled.",
    )
    OUTPUT_MAX_BYTES: int = Field(
        1 << 27, ge=4096, le=1 << 31, description="Bytes of outputs that a step may return, and be given, at all."
    )
    ARTIFACT_EXECUTION_BYTES: int = Field(1 << 30, ge=0, description="Bytes of artifacts that one execution may leave.")
    ARTIFACT_TOTAL_BYTES: int = Field(
        0, ge=0, description="Bytes of all artifacts together; 0: no limit but the disk's."
    )
    ARTIFACT_STORAGE_URL: str = Field(
        "",
        description="Where artifacts lie: `s3://key:secret@bucket/prefix?endpoint=https://…&region=…`, or "
        "`file:///directory`; empty: `DATA_DIR/artifacts`.",
    )
    CALLABLE_MODULES: Names = Field((), description="Modules whose public functions `python` steps may call.")
    WORKFLOW_ENV_ALLOWED: Names = Field(
        (), description="Environment variables that definitions may read; none of the server's secrets."
    )
    VOLUME_ROOTS: Names = Field(
        (), description="Host directories beneath which containers may mount what they name; empty: none."
    )
    PROCESS_STEPS: Literal["trusted", "sandboxed", "off", ""] = Field(
        "",
        description="Whether commands run: as the worker's user (`trusted`, development), in a sandbox, or not at all "
        "(`off`, production).",
    )
    PROCESS_SANDBOX_READ: Names = Field((), description="Directories that sandboxed commands may read, besides `/usr`.")
    PROCESS_SANDBOX_WRITE: Names = Field(
        (), description="Directories that sandboxed commands may write in, where the directory lets every user."
    )
    PROCESS_SANDBOX_NETWORK: bool = Field(False, description="Whether sandboxed commands may use the network.")
    PROCESS_MEMORY_MIB: int = Field(4096, ge=0, description="Memory of each process of a command; 0: no limit.")
    PROCESS_CPU_SECONDS: int = Field(0, ge=0, description="CPU time of each process of a command; 0: no limit.")
    PROCESS_FILE_MIB: int = Field(4096, ge=0, description="Size of each file that a command writes; 0: no limit.")
    PROCESS_OPEN_FILES: int = Field(1024, ge=16, le=1_048_576, description="Open files of each process of a command.")
    PROCESS_MAX_PROCESSES: int = Field(256, ge=8, description="Processes and threads of a sandboxed command.")
    CONTAINER_RUNTIME: Literal["dagger", "docker", "none", ""] = Field(
        "",
        description="What runs container steps; empty: `dagger` where a session is configured, `docker` where its "
        "socket answers, else `none`.",
    )
    DOCKER_HOST: str = Field(
        "", description="API of Docker or Podman, `unix:///path` or `tcp://host:port`; empty: their usual sockets."
    )
    DAGGER_SESSION_PORT: int = Field(0, ge=0, le=65535, description="Port of a Dagger session on this host; 0: none.")
    DAGGER_SESSION_TOKEN: str = Field("", description="Token of that session.")
    HTTP_STEP_ALLOWED_HOSTS: Names = Field((), description="Hosts (or host:port) that http steps may reach inside.")
    DAGGER_TRACING_ENABLED: bool = Field(True, description="OpenTelemetry traces.")
    DAGGER_OTLP_ENDPOINT: str = Field("localhost:4317", description="OTLP/gRPC collector.")
    PROMETHEUS_URL: str = Field(
        "", description="Prometheus that carries the alert rules out; empty: this platform does, and tells of alerts."
    )
    ALERTMANAGER_URL: str = Field(
        "", description="Alertmanager whose alerts and silences are shown; without PROMETHEUS_URL it is told of ours."
    )
    ALERT_PAGER: Names = Field(
        (),
        description="Who `alertmanager_config` has told of critical alerts: `https://…` (a webhook), "
        "`slack:https://…` or `mailto:address`.",
    )
    ALERT_OPERATORS: Names = Field((), description="Who is told of warnings and notes, likewise.")
    ALERT_WATCHDOG: Names = Field(
        (),
        description="Who hears every five minutes that alerting works, likewise, and cries out when he does not.",
    )
    PLATFORM_URL: str = Field("", description="Address of this installation as its users type it.")
    EMAIL_HOST: str = Field("", description="SMTP server that sends notifications by mail; empty: none are sent.")
    EMAIL_PORT: int = Field(587, ge=1, le=65535, description="Its port.")
    EMAIL_HOST_USER: str = Field("", description="Account at the SMTP server; empty: no login.")
    EMAIL_HOST_PASSWORD: str = Field("", description="Password of that account.")
    EMAIL_USE_TLS: bool = Field(True, description="Speak to the SMTP server under STARTTLS only.")
    EMAIL_FROM: str = Field("", description="Sender of mails, `Name <address>`; empty: `EMAIL_HOST_USER`.")
    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")

    @field_validator("DATABASE_URL", mode="after")
    @classmethod
    def _database(cls, value: str) -> str:
        url = urlsplit(value)
        _ = url.port  # raises ValueError for what is no port
        if value and not (url.scheme in ("postgres", "postgresql", "sqlite") and url.path.strip("/")):
            raise ValueError("give `postgres://user:password@host/name`, or nothing for SQLite in DATA_DIR")
        return value

    @field_validator("REDIS_URL", mode="after")
    @classmethod
    def _redis(cls, value: str) -> str:
        url = urlsplit(value)
        if value and not (url.path if url.scheme == "unix" else url.scheme in ("redis", "rediss") and url.hostname):
            raise ValueError("give `redis://host:6379/0`, `rediss://…` or `unix:///path/of/the.sock`")
        return value

    @field_validator("CORS_ALLOWED_ORIGINS", mode="after")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not _is_origin(one):
                raise ValueError(f"{one!r} is no origin: give `https://app.example.com`, without a path")
        return value

    @field_validator("PLATFORM_URL", mode="after")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not _is_origin(value.rstrip("/")):
            raise ValueError("give scheme and host, such as `https://platform.example.com`, without a path")
        return value.rstrip("/")

    @field_validator("WORKER_LABELS", mode="after")
    @classmethod
    def _labels(cls, value: str) -> str:
        try:
            parse_labels(value)
        except LabelError as wrong:
            raise ValueError(f"{wrong.message} (at character {wrong.position + 1})") from None
        return value

    @field_validator("TRUSTED_PROXIES", mode="after")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            ipaddress.ip_network(name, strict=False)  # raises ValueError naming it
        return value

    @field_validator("WORKFLOW_ENV_ALLOWED", mode="after")
    @classmethod
    def _no_secret(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if secret := next((name for name in value if name in SERVER_SECRETS), None):
            raise ValueError(f"{secret} is a secret of the server; what steps need is kept as in docs/secrets.md")
        return value

    @field_validator("VOLUME_ROOTS", mode="after")
    @classmethod
    def _roots(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for root in value:
            if not root.startswith("/") or not root.strip("/"):
                raise ValueError(f"{root!r}: name absolute directories, such as `/srv/data`, and never `/` itself")
        return value

    @field_validator("DOCKER_HOST", mode="after")
    @classmethod
    def _api(cls, value: str) -> str:
        where = urlsplit(value)
        if value and not (where.path if where.scheme == "unix" else where.scheme == "tcp" and where.hostname):
            raise ValueError("give `unix:///path/of/the.sock` or `tcp://host:port`")
        return value

    @field_validator("VAULT_KEYS", mode="after")
    @classmethod
    def _keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, key in enumerate(value, 1):
            try:
                Fernet(key)
            except ValueError:
                raise ValueError(
                    f"key {number} of {len(value)} is no Fernet key (32 bytes in URL-safe base64); make one with "
                    '`python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"`'
                ) from None
        return value

    @field_validator("ARTIFACT_STORAGE_URL", mode="after")
    @classmethod
    def _storage(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and not ((parts.scheme == "s3" and parts.hostname) or (parts.scheme == "file" and parts.path)):
            raise ValueError("give `s3://bucket/prefix`, `file:///directory`, or nothing")
        return value

    @field_validator("OIDC_ISSUER", mode="after")
    @classmethod
    def _issuer(cls, value: str) -> str:
        parts = urlsplit(value)
        local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
        if value and not (parts.hostname and (parts.scheme == "https" or local)):
            raise ValueError("give the provider's https:// address (http:// for the loopback only)")
        return value.rstrip("/")

    @field_validator("OIDC_ROLE", mode="after")
    @classmethod
    def _harmless(cls, value: str) -> str:
        if value == "admin":
            raise ValueError("whoever the provider lets in must not become an administrator; name a lesser role")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "Environment":
        if self.OIDC_ISSUER and not (self.OIDC_CLIENT_ID and self.OIDC_CLIENT_SECRET):
            raise ValueError("OIDC_ISSUER needs OIDC_CLIENT_ID and OIDC_CLIENT_SECRET")
        return self

    @field_validator("EMAIL_FROM", mode="after")
    @classmethod
    def _sender(cls, value: str) -> str:
        name, at, host = parseaddr(value)[1].rpartition("@")
        if value and not (name and at and host and value.isprintable()):
            raise ValueError("give an address, such as `platform@example.com` or `Platform <platform@example.com>`")
        return value

    @field_validator("ALERT_PAGER", "ALERT_OPERATORS", "ALERT_WATCHDOG", mode="after")
    @classmethod
    def _destinations(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place, one in enumerate(value, start=1):
            url = urlsplit(one.removeprefix("slack:"))
            mail = parseaddr(one.removeprefix("mailto:"))[1].rpartition("@")
            if not (all(mail) if one.startswith("mailto:") else url.scheme in ("http", "https") and url.hostname):
                raise ValueError(f"number {place}: give `https://…`, `slack:https://…` or `mailto:address`")
        return value

    @field_validator("DATA_DIR", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()


_MESSAGES = {"string_pattern_mismatch": "give a number and its time, such as `6000/m` (s, m, h or d)"}
"""In the place of pydantic's own; rates are the only texts with a pattern."""


def read(source: Mapping[str, str] | None = None) -> Environment:
    """The environment as typed values.

    Raises `UnsafeEnvironment` with a line for each wrong one.
    """
    given = dict(os.environ if source is None else source)
    try:
        # An empty variable is an unset one: `PORT= make run`.
        return Environment.model_validate({name: value for name, value in given.items() if value != ""})
    except ValidationError as wrong:
        names = [str(e["loc"][0]) if e["loc"] else "OIDC_ISSUER" for e in wrong.errors()]
        shown = ["(not shown)" if name in NEVER_SHOWN else repr(given.get(name)) for name in names]
        raise UnsafeEnvironment(
            [
                f"{name}={text}: {_MESSAGES.get(e['type']) or e['msg'].removeprefix('Value error, ')}"
                for name, text, e in zip(names, shown, wrong.errors(), strict=True)
            ]
        ) from None


def data_dir(env: Environment) -> Path:
    """`DATA_DIR`, made if missing. Raises `UnsafeEnvironment` when it cannot be written."""
    try:
        env.DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o750)
        probe = env.DATA_DIR / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UnsafeEnvironment(
            [f"DATA_DIR={str(env.DATA_DIR)!r}: not writable ({error.strerror}); name a directory this user can write"]
        ) from None
    return env.DATA_DIR


def kept_key(env: Environment, name: str) -> str:
    """A generated key that later starts find again, in a file only its owner reads (development only)."""
    path = data_dir(env) / name.lower()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    key = secrets.token_urlsafe(48)
    with os.fdopen(descriptor, "w") as file:
        file.write(key)
    return key


def _weak(key: str) -> bool:
    return len(key) < MIN_KEY_LENGTH or len(set(key)) < 8 or key.startswith("django-insecure")


def unsafe_for_production(env: Environment, *, debug: bool) -> list[str]:
    """What production refuses to start with, a line each; empty when it is safe."""
    lines = []
    for name in ("SECRET_KEY", "JWT_SIGNING_KEY"):
        key = getattr(env, name)
        if _weak(key):
            lines.append(f"{name}: give a random key of at least {MIN_KEY_LENGTH} characters")
    if env.SECRET_KEY and env.SECRET_KEY == env.JWT_SIGNING_KEY:
        lines.append("JWT_SIGNING_KEY: must differ from SECRET_KEY")
    for number, key in enumerate(env.JWT_SIGNING_KEYS_OLD, 1):
        if _weak(key) or key in (env.SECRET_KEY, env.JWT_SIGNING_KEY):
            lines.append(f"JWT_SIGNING_KEYS_OLD: key {number} is weak, or is SECRET_KEY or JWT_SIGNING_KEY")
    if debug:
        lines.append("DEBUG: is for development only; unset it")
    if not env.ALLOWED_HOSTS or "*" in env.ALLOWED_HOSTS:
        lines.append("ALLOWED_HOSTS: name the hosts this server answers to, without `*`")
    if env.SERVER_PROCESSES > 1 and not env.REDIS_URL:
        lines.append("REDIS_URL: needed with SERVER_PROCESSES > 1 (rate limits and tickets are shared through it)")
    if env.ANONYMOUS_ROLE:
        lines.append("ANONYMOUS_ROLE: must be empty in production")
    return lines
