"""Past runs through the graph: what is drawn, and when the last step ends."""

import random

import pytest

from apps.workflows.estimate import Run, Shape, Situation, Step, StepNow, Took, profile_of
from apps.workflows.estimate.methods import METHODS, floor_of
from apps.workflows.estimate.sampling import SKIP, Draws
from apps.workflows.estimate.schedule import remaining
from apps.workflows.estimate.shapes import as_of, marks_of


def chain(*names):
    return Shape.of(Step(name, (names[k - 1],) if k else ()) for k, name in enumerate(names))


def run_of_chain(seconds):
    steps, at = {}, 0.0
    for name, took in seconds.items():
        steps[name] = Took(at, at, at, at + took)
        at += took
    return Run(at, steps)


def draws_of(seconds, pieces=None, samples=1):
    none = [[0] * samples for _ in seconds]
    return Draws(
        [[one] * samples for one in seconds],
        [[0.0] * samples for _ in seconds],
        [[n] * samples for n in pieces] if pieces else none,
        [1.0] * samples,
    )


def everything_open(shape, slots=1000):
    return Situation(0.0, tuple(StepNow() for _ in shape.steps), slots)


def test_a_circle_is_refused():
    with pytest.raises(ValueError, match="circle"):
        Shape.of([Step("a", ("b",)), Step("b", ("a",))])


def test_steps_come_after_those_that_they_wait_for():
    shape = Shape.of([Step("c", ("a", "b")), Step("b", ("a",)), Step("a")])
    assert [step.id for step in shape.steps] == ["a", "b", "c"]


def test_a_chain_takes_the_sum_and_a_fan_the_longest():
    fan = Shape.of([Step("a"), Step("b"), Step("c")])
    assert remaining(chain("a", "b", "c"), everything_open(fan), draws_of([1.0, 2.0, 3.0])) == [6.0]
    assert remaining(fan, everything_open(fan), draws_of([1.0, 2.0, 3.0])) == [3.0]


def test_slots_make_steps_wait_first_come_first_served():
    fan = Shape.of([Step("a"), Step("b"), Step("c")])
    assert remaining(fan, everything_open(fan, slots=1), draws_of([1.0, 2.0, 3.0])) == [6.0]
    assert remaining(fan, everything_open(fan, slots=2), draws_of([1.0, 2.0, 3.0])) == [4.0]


def test_what_needs_no_slot_waits_for_none():
    shape = Shape.of([Step("a"), Step("wait", slotless=True)])
    assert remaining(shape, everything_open(shape, slots=1), draws_of([5.0, 5.0])) == [5.0]


def test_a_skipped_step_takes_nothing_with_and_without_enough_slots():
    shape = chain("a", "b", "c")
    assert remaining(shape, everything_open(shape), draws_of([1.0, SKIP, 3.0])) == [4.0]
    wide = Shape.of([Step("a"), Step("b"), Step("c", ("a", "b")), Step("d")])
    assert remaining(wide, everything_open(wide, slots=1), draws_of([1.0, SKIP, 3.0, 1.0])) == [5.0]


def test_items_share_the_slots_and_their_own_limit():
    shape = Shape.of([Step("load", at_once=4)])
    assert remaining(shape, everything_open(shape), draws_of([20.0], [20])) == [5.0]
    assert remaining(shape, everything_open(shape, slots=2), draws_of([20.0], [20])) == [10.0]
    assert remaining(shape, everything_open(shape), draws_of([3.0], [1])) == [3.0]


@pytest.mark.parametrize("slots", [1, 2, 3, 1000])
def test_both_ways_through_the_graph_agree_where_slots_are_not_short(slots):
    """The fast one, for all samples at once, and the one that minds slots: on a chain slots are never short."""
    from apps.workflows.estimate import schedule

    shape = Shape.of([Step("a"), Step("b", ("a",)), Step("c", ("a",)), Step("d", ("b", "c"))])
    now = everything_open(shape, slots)
    chance = random.Random(3)
    draws = draws_of([chance.uniform(0.1, 5) for _ in shape.steps])
    careful = schedule._crowded(schedule._Plan(shape, now), [d[0] for d in draws.seconds], [0] * 4)
    if slots >= 2:
        assert careful == pytest.approx(schedule._unhindered(shape, now, draws)[0])
    else:
        assert careful == pytest.approx(sum(d[0] for d in draws.seconds))


def test_a_replay_knows_only_what_was_to_be_seen():
    shape = chain("a", "b")
    now = as_of(run_of_chain({"a": 10.0, "b": 30.0}), shape, 15.0)
    assert now.steps == (StepNow("done", 10.0), StepNow("running", 5.0))
    assert now.elapsed == 15.0


def test_a_replay_of_items_counts_those_that_had_ended():
    shape = Shape.of([Step("load", at_once=2)])
    ends = [5.0, 5.0, 10.0, 10.0, 15.0]
    took = Took(0.0, 0.0, 0.0, 15.0, 5, 5.0, wide=2, marks=marks_of(ends))
    step = as_of(Run(15.0, {"load": took}), shape, 7.0).steps[0]
    assert (step.items, step.items_done, step.ages) == (5, 2, (2.0, 2.0))
    many = marks_of(float(k) for k in range(1, 101))
    assert many == (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)


def test_a_slow_run_is_foretold_to_stay_slow():
    shape = chain("a", "b", "c")
    profile = profile_of(
        shape, [run_of_chain({"a": f * 10, "b": f * 10, "c": f * 10}) for f in (0.5, 1, 2, 1, 0.6, 1.7)]
    )
    slow = Situation(30.0, (StepNow("done", 30.0), StepNow(), StepNow()))
    usual = Situation(10.0, (StepNow("done", 10.0), StepNow(), StepNow()))
    simulate = METHODS["monte_carlo"]
    assert simulate(profile, usual, seed=1).seconds == pytest.approx(20.0, rel=0.25)
    assert simulate(profile, slow, seed=1).seconds == pytest.approx(60.0, rel=0.35)


def test_a_step_that_outlasted_all_others_is_not_done_at_once():
    shape = chain("a")
    profile = profile_of(shape, [run_of_chain({"a": 10.0 + k}) for k in range(6)])
    left = METHODS["monte_carlo"](profile, Situation(100.0, (StepNow("running", 100.0),)), seed=1)
    assert left.seconds > 1.0


def test_what_a_step_says_of_itself_counts_more_the_further_it_is():
    shape = chain("a")
    profile = profile_of(shape, [run_of_chain({"a": s}) for s in (50.0, 100.0, 200.0, 90.0, 110.0)])
    left = METHODS["monte_carlo"](profile, Situation(400.0, (StepNow("running", 400.0, percent=90.0),)), seed=1)
    assert left.seconds == pytest.approx(400 / 9, rel=0.3)


def test_a_branch_that_was_taken_before_is_taken_by_its_share():
    shape = chain("a", "b")
    taken = run_of_chain({"a": 10.0, "b": 100.0})
    skipped = Run(10.0, {"a": Took(0, 0, 0, 10.0), "b": Took(10.0, 10.0, 10.0, 10.0, skipped=True)})
    now = Situation(10.0, (StepNow("done", 10.0), StepNow()))
    rarely = METHODS["monte_carlo"](profile_of(shape, [taken, *[skipped] * 8]), now, seed=1)
    mostly = METHODS["monte_carlo"](profile_of(shape, [skipped, *[taken] * 8]), now, seed=1)
    assert rarely.seconds < 1 < 50 < mostly.seconds


def test_a_count_that_is_known_takes_the_place_of_past_ones():
    shape = Shape.of([Step("load", at_once=1)])

    def past(items):
        return Run(items * 2.0, {"load": Took(0, 0, 0, items * 2.0, items, 2.0)})

    profile = profile_of(shape, [past(n) for n in (10, 12, 9, 11, 10)])
    now = Situation(1.0, (StepNow("running", 2.0, items=100, items_done=1),))
    assert METHODS["monte_carlo"](profile, now, seed=1).seconds == pytest.approx(198, rel=0.2)


def test_a_new_step_of_which_nothing_is_known_is_taken_for_a_middling_one():
    profile = profile_of(chain("a", "new"), [run_of_chain({"a": 10.0})])
    left = METHODS["monte_carlo"](profile, Situation(10.0, (StepNow("done", 10.0), StepNow())), seed=1)
    assert 2 < left.seconds < 50
    assert left.high > 0.5


def test_a_method_that_knows_nothing_says_nothing():
    profile = profile_of(chain("a"), [run_of_chain({"a": 10.0})])
    now = Situation(20.0, (StepNow("running", 20.0),))
    assert METHODS["median_of_last_runs"](profile, now, seed=1) is None
    assert floor_of(profile) > 0


def test_a_hundred_steps_cost_no_more_than_tens_of_milliseconds():
    """Bounded by what is counted, not by a clock: samples shrink as steps grow."""
    from apps.workflows.estimate import methods

    assert methods.BUDGET // 100 >= 200
    assert methods.LEAST_SAMPLES * 10_000 <= 12 * methods.BUDGET
