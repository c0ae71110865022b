"""`manage.py worker`, `server` and `serve`."""
