"""Families as text: Prometheus's format, or OpenMetrics for a scraper that asks for it."""

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector


def rendered(collector: Collector, *, accept: str) -> tuple[bytes, str]:
    """The body and its content type, as the `Accept` header prefers; never a refusal."""
    encode, content_type = choose_encoder(accept)
    return encode(collector), content_type
