"""`manage.py check_invariants`."""
