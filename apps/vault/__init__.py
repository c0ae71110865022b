"""Secrets, and what steps leave behind as files. Knows no workflow and no right: who may is asked above."""
