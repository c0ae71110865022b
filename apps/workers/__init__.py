"""Performers of ours: worker processes, their supervisor, the reaper."""
