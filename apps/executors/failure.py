"""What a callable raises to say how it failed. Imported by child processes: nothing but builtins here."""

TYPES = frozenset(
    {
        "error",
        "exit_code",
        "timeout",
        "oom",
        "http_status",
        "connection",
        "refused",
        "unavailable",
        "invalid",
        "output",
        "lost",
        "cancelled",
    }
)
"""The closed list of `StepError.type`: it becomes a metric's label."""

REGISTRY_UNREACHED = "RegistryUnreached"
"""`StepError.exception` of a container step whose image could not be pulled because its registry did not answer."""

MAX_MESSAGE = 2_000
"""Characters of an error's message that are kept."""


class StepFailed(Exception):
    """The step failed for a reason that its author knows; by default another attempt would not help.

    `type` is one of `TYPES`. Raises ValueError for another.
    """

    def __init__(self, message: str, *, type: str = "error", retryable: bool = False) -> None:  # noqa: A002
        if type not in TYPES:
            raise ValueError(f"StepFailed(type={type!r}): use one of {', '.join(sorted(TYPES))}")
        super().__init__(message)
        self.message = message
        self.type = type
        self.retryable = retryable


def describe(raised: BaseException) -> str:
    """`ClassName: message` of anything raised, however its `__str__` behaves; at most `MAX_MESSAGE` characters."""
    name = type(raised).__name__
    try:
        text = str(raised)
    except Exception:
        text = "(its message cannot be read)"
    return (f"{name}: {text}" if text else name)[:MAX_MESSAGE]
