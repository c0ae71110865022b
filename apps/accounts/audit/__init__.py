"""The audit log: who did what to what, in order, each entry sealed by its hash to the one before.

`record(action, …)` writes one entry in the caller's transaction. `command(name)` says that a command of the operator's
is what acts; `gathered()` keeps the entries of a longer transaction for its end.
`refused(action, …)` tells what somebody may not, once a minute.
"""

from apps.accounts.audit.recording import Actor, command, gathered, is_refusal, present_actor, record, refused

__all__ = ["Actor", "command", "gathered", "is_refusal", "present_actor", "record", "refused"]
