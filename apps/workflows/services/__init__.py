"""The only transactions, the only writers."""
