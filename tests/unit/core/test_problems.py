"""Each error in the words of HTTP."""

import pytest
from django.core import exceptions as django_errors
from django.http import Http404
from rest_framework import exceptions as drf
from rest_framework import serializers

from apps.core import errors
from apps.core.api.problems import describe
from apps.core.api.viewsets import StrictSerializer


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.Invalid("x"), 400, "invalid"),
        (errors.Unauthenticated("x"), 401, "not_authenticated"),
        (errors.Denied("x"), 403, "permission_denied"),
        (errors.NotFound("x"), 404, "not_found"),
        (errors.Conflict("x", code="invalid_transition"), 409, "invalid_transition"),
        (errors.TooLarge("x"), 413, "too_large"),
        (errors.TooMany("x", retry_after=3), 429, "rate_limited"),
        (errors.Unavailable("x"), 503, "unavailable"),
        (drf.NotAuthenticated(), 401, "not_authenticated"),
        (drf.PermissionDenied(), 403, "permission_denied"),
        (drf.NotFound("No Secret matches"), 404, "not_found"),
        (drf.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
        (drf.UnsupportedMediaType("x/y"), 415, "unsupported_media_type"),
        (drf.Throttled(wait=2.5), 429, "rate_limited"),
        (Http404("No Secret matches the query"), 404, "not_found"),
        (django_errors.PermissionDenied("why"), 403, "permission_denied"),
        (django_errors.RequestDataTooBig(), 413, "too_large"),
        (django_errors.TooManyFieldsSent(), 400, "bad_request"),
        (django_errors.DisallowedHost("x"), 400, "bad_request"),
    ],
)
def test_each_error_has_its_status_and_code(error, status, code):
    description = describe(error)
    assert (description.status, description.code) == (status, code)
    assert "Secret" not in description.detail


def test_a_401_says_what_to_bring_and_a_429_when_to_come_back():
    assert describe(errors.Unauthenticated("x")).headers["WWW-Authenticate"] == "Bearer"
    assert describe(errors.TooMany("x", retry_after=7)).headers["Retry-After"] == "7"
    assert describe(drf.Throttled(wait=2.5)).headers["Retry-After"] == "3"


def test_a_conflict_names_the_lawful_moves():
    body = describe(errors.Conflict("no", allowed_actions=["retry"])).body()
    assert body["allowed_actions"] == ["retry"]


def test_an_unforeseen_error_is_nobodys_to_describe():
    assert describe(ValueError("SELECT * FROM users")) is None


class Step(StrictSerializer):
    id = serializers.CharField()
    retries = serializers.IntegerField(required=False)
    status = serializers.CharField(read_only=True)


class Definition(StrictSerializer):
    name = serializers.CharField()
    steps = Step(many=True)


def pointers(data):
    serializer = Definition(data=data)
    with pytest.raises(drf.ValidationError) as refused:
        serializer.is_valid(raise_exception=True)
    return {p.pointer: (p.code, p.message) for p in describe(refused.value).problems}


def test_every_mistake_has_its_pointer():
    found = pointers({"steps": [{"id": "a"}, {"retries": "many"}]})
    assert set(found) == {"/name", "/steps/1/id", "/steps/1/retries"}
    assert found["/name"][0] == "required"


def test_a10_unknown_and_read_only_fields_are_refused_beside_the_other_mistakes():
    found = pointers({"nam": "x", "steps": [{"id": "a", "status": "completed", "retires": 3}]})
    assert found["/nam"] == ("unknown_field", "unknown field; did you mean `name`?")
    assert found["/name"][0] == "required"
    assert found["/steps/0/status"][0] == "read_only"
    assert "`retries`" in found["/steps/0/retires"][1]
