"""How a circuit breaker moves, without a database: what opens it, what the probe decides, what counts."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.workflows.engine import breaker as rules
from apps.workflows.engine.breaker import Call, Counted, Policy, State
from apps.workflows.engine.graph import Breaker

NOW = datetime(2027, 1, 31, 9, tzinfo=UTC)
POLICY = Policy(failures=3, ratio=0.5, window_seconds=60, open_seconds=30)
WAREHOUSE = Breaker(name="warehouse")


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def calls(results, *, state=None, at=0.0, step=0.0, policy=POLICY):
    """The breaker after calls that ended so: `"+"` well, `"-"` badly."""
    state = state or Counted()
    for number, result in enumerate(results):
        state = rules.count(state, policy, Call(result == "-", False, f"t:{number}"), after(at + number * step))
    return state


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("--", State.CLOSED),
        ("---", State.OPEN),
        ("+++---", State.OPEN),
        ("++++---", State.CLOSED),  # three of seven are less than half
        ("++++----", State.OPEN),
        ("+-+-+", State.CLOSED),
    ],
)
def test_it_opens_at_so_many_failures_that_are_a_large_enough_share(results, state):
    assert calls(results).state is state


def test_failures_older_than_the_window_are_forgotten():
    assert calls("--", state=calls("-"), at=70).state is State.CLOSED
    assert calls("--", state=calls("-"), at=40).state is State.OPEN


def test_one_call_that_was_not_even_tried_is_enough():
    opened = rules.count(Counted(), POLICY, Call(True, True, "t:1"), NOW)
    assert (opened.state, opened.reason, opened.probe_at) == (State.OPEN, "unavailable", after(30))


def test_open_it_lets_nothing_through_until_a_probe_is_due():
    opened = calls("---")
    assert rules.ask(opened, POLICY, after(29), probe_lives=False) == after(30)
    assert rules.ask(opened, POLICY, after(30), probe_lives=False) is None


def test_half_open_it_lets_nothing_through_while_the_probe_lives():
    half_open = rules.probing("t:9", after(30))
    assert rules.ask(half_open, POLICY, after(31), probe_lives=True) == after(61)
    assert rules.ask(half_open, POLICY, after(31), probe_lives=False) is None


def test_the_probe_decides_and_nobody_else():
    half_open = rules.probing("t:9", after(30))
    late = rules.count(half_open, POLICY, Call(False, False, "t:1"), after(31))
    assert late.state is State.HALF_OPEN
    assert rules.count(late, POLICY, Call(False, False, "t:9"), after(32)).state is State.CLOSED
    again = rules.count(late, POLICY, Call(True, False, "t:9"), after(32))
    assert (again.state, again.reason, again.probe_at) == (State.OPEN, "probe_failed", after(62))


def test_closed_again_it_has_forgotten_what_opened_it():
    closed = rules.count(rules.probing("t:9", NOW), POLICY, Call(False, False, "t:9"), NOW)
    assert calls("--", state=closed).state is State.CLOSED


def test_opened_by_hand_it_stays_so_until_it_is_reset():
    held = rules.held_open(NOW, "manual")
    assert calls("++++", state=held) == held
    assert rules.ask(held, POLICY, after(10**6), probe_lives=False) == after(10**6 + 30)


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (None, False),
        ({"type": "unavailable"}, True),
        ({"type": "timeout"}, True),
        ({"type": "connection"}, True),
        ({"type": "http_status", "retryable": True}, True),  # 500 and above, 429
        ({"type": "http_status", "retryable": False}, False),  # 404: it did answer
        ({"type": "error", "exception": "ConnectionRefusedError"}, True),
        ({"type": "error", "exception": "ValueError"}, False),
        ({"type": "exit_code", "exit_code": 1}, False),
        ({"type": "invalid", "retryable": False}, False),
        ({"type": "refused", "retryable": False}, False),
    ],
)
def test_what_is_down_counts_and_the_users_own_mistakes_do_not(error, counts):
    assert rules.outcome_of(WAREHOUSE, error)[0] is counts


def test_a_step_may_say_what_counts():
    strict = Breaker(name="batch", on=frozenset({"exit_code", "75"}))
    assert rules.outcome_of(strict, {"type": "exit_code", "exit_code": 1}) == (True, False)
    assert rules.outcome_of(strict, {"type": "unavailable"}) == (False, False)
