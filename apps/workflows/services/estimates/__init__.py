"""Estimates: what is served is recorded, what has ended is learnt from. All of it off the hot path."""

from apps.workflows.services.estimates.folding import LOOK_SECONDS, fold_due
from apps.workflows.services.estimates.serving import serve
from apps.workflows.services.estimates.settling import settle

__all__ = ["LOOK_SECONDS", "fold_due", "serve", "settle"]
