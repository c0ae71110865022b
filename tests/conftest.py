"""What holds for every test, and for every one that has a database."""

import pytest
from django.test import TransactionTestCase
from hypothesis import HealthCheck, settings

from tests.support.restoring import Restorer

# A loaded machine is no reason to fail: neither an example nor the making of examples is timed.
settings.register_profile(
    "patient", settings.default, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def restorer(django_db_setup):
    """The way back to the database as the migrations left it."""
    return django_db_setup


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """A test that commits is followed by a restoration, which takes the place of Django's flush of every table."""
    with django_db_blocker.unblock():
        restorer = Restorer()
    flushing = TransactionTestCase._fixture_teardown
    TransactionTestCase._fixture_teardown = lambda _: restorer.restore()
    yield restorer
    TransactionTestCase._fixture_teardown = flushing
