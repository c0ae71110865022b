"""What a look at the rows finds wrong."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that does not hold."""

    invariant: str
    execution_id: str
    what: str
