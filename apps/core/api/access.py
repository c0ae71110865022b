"""The two words a view may declare in `required_permissions` instead of a permission."""

OPEN = "open"
"""No credential is asked for: only what the contract lists as open."""

AUTHENTICATED = "authenticated"
"""Any account, whatever it may: its own profile, its own logout."""
