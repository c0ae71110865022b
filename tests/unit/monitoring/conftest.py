"""One provider for the test's process (OpenTelemetry allows no second) that sends to a receiver inside it."""

import pytest
from opentelemetry import trace

from apps.monitoring.tracing import provider as provider_module
from tests.support.receiver import Receiver


@pytest.fixture(scope="session")
def _collecting():
    receiver = Receiver()
    provider = provider_module.build("test", receiver.endpoint)
    trace.set_tracer_provider(provider)
    yield receiver, provider
    provider.shutdown()
    receiver.stop()


@pytest.fixture
def receiver(_collecting, monkeypatch):
    """The receiver, with tracing switched on for this test."""
    receiver, provider = _collecting
    monkeypatch.setattr(provider_module, "_current", provider)
    provider.force_flush()
    receiver.clear()
    return receiver


@pytest.fixture
def received(_collecting, receiver):
    """What the receiver has, once everything was sent: spans by name."""

    def spans():
        _collecting[1].force_flush()
        return receiver.spans()

    return spans
