"""The audit log: who did what to what, in order, each entry sealed by its hash to the one before.

`record(action, …)` writes one entry in the caller's transaction. `command(name)` says that a command of the operator's
is what acts; `gathered()` keeps the entries of a longer transaction for its end.
"""

from apps.accounts.audit.recording import Actor, command, gathered, record

__all__ = ["Actor", "command", "gathered", "record"]
