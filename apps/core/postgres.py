"""PostgreSQL as long-lived connections with kept plans need it."""

from typing import Any

# The ledger's statements find rows by id, and their plans are kept for the life of a connection. One made while the
# tables were small would read them whole for ever after; JIT compiles what it takes for expensive, which a scan that
# cannot be avoided then seems to be.
_PLANNING = "SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan"


def plan_for_growth(*, connection: Any, **_: Any) -> None:
    """Receiver of `connection_created`: plans by indexes, made once."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_PLANNING)
