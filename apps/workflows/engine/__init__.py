"""The pure engine: no Django, no clock, no I/O."""
