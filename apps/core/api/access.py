"""The words a view may declare in `required_permissions` instead of a permission."""

OPEN = "open"
"""No credential is asked for: only what the contract lists as open."""

AUTHENTICATED = "authenticated"
"""Any account, whatever it may: its own profile, its own logout."""

AGENT = "agent"
"""The agent itself that the route names, by its own credential; no account's."""
