"""Properties of every answer, whatever the past was; and what calibration does to it."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.workflows.estimate import Calibration, Run, Shape, Step, Took, estimate, learn, profile_of
from apps.workflows.estimate.calibration import Judged
from apps.workflows.estimate.methods import Raw
from apps.workflows.estimate.shapes import as_of


@st.composite
def pasts(draw):
    """A shape with some runs of it: noisy, with branches, retries and items."""
    count = draw(st.integers(1, 8))
    steps = [
        Step(
            f"s{k}",
            tuple({f"s{draw(st.integers(0, k - 1))}"} if k and draw(st.booleans()) else ()),
            slotless=draw(st.booleans()),
            at_once=draw(st.sampled_from([0, 0, 2, 1000])),
        )
        for k in range(count)
    ]
    shape = Shape.of(steps)
    chance = random.Random(draw(st.integers(0, 10**6)))
    runs = [_run(shape, chance) for _ in range(draw(st.integers(1, 8)))]
    return shape, runs


def _run(shape, chance):
    steps = {}
    for step in shape.steps:
        ready = max((steps[name].ended for name in step.depends_on), default=0.0)
        if chance.random() < 0.1:
            steps[step.id] = Took(ready, ready, ready, ready, skipped=True)
            continue
        started = ready + chance.choice([0.0, 0.0, chance.expovariate(1)])
        attempt = started + (chance.expovariate(0.2) if chance.random() < 0.2 else 0.0)
        seconds = math.exp(chance.gauss(1, 2))
        items = chance.randint(1, 30) if step.at_once else 0
        wide = min(items, step.at_once) or 1
        ended = attempt + seconds * math.ceil(items / wide if items else 1)
        steps[step.id] = Took(ready, started, attempt, ended, items, seconds if items else 0.0, wide=wide)
    return Run(max((took.ended for took in steps.values()), default=0.0), steps)


@settings(max_examples=60, deadline=None)
@given(pasts(), st.floats(0, 3), st.integers(1, 20), st.integers(0, 1000))
def test_every_answer_is_in_order_and_finite(past, share, slots, seed):
    shape, runs = past
    calibration = Calibration()
    for number in range(1, len(runs)):
        learn(shape, runs[:number], runs[number], calibration)
    now = as_of(runs[-1], shape, runs[-1].seconds * share, slots=slots)
    told = estimate(profile_of(shape, runs), now, calibration, seed=seed)
    assert 0 <= told.p10 <= told.p50 <= told.p90 < math.inf
    assert told.p50 > 0
    assert told.runs == len(runs)
    assert told.coverage is None or 0 <= told.coverage <= 1
    again = estimate(profile_of(shape, runs), now, calibration, seed=seed)
    assert again == told  # chance comes from the seed alone


@settings(max_examples=30, deadline=None)
@given(pasts())
def test_what_was_learnt_survives_being_kept(past):
    shape, runs = past
    calibration = Calibration()
    for number in range(1, len(runs)):
        learn(shape, runs[:number], runs[number], calibration)
    kept = Calibration.of_json(calibration.as_json())
    assert kept.as_json() == calibration.as_json()
    assert len(kept.held) <= 200


def test_the_first_run_teaches_nothing_about_estimates():
    calibration = Calibration()
    learn(Shape.of([Step("a")]), [], Run(1.0, {"a": Took(0, 0, 0, 1.0)}), calibration)
    assert (calibration.runs, calibration.judged, calibration.coverage) == (0, [], None)


def moments(chance, sd, spread, moments=4):
    """A run judged by a method that believes in `spread` where the truth scatters by `sd`."""
    return [
        (0.5, 100.0 * math.exp(chance.gauss(0, sd)), {"monte_carlo": Raw(100.0, spread, spread)})
        for _ in range(moments)
    ]


@pytest.mark.parametrize(("sd", "believed"), [(0.1, 0.05), (0.5, 0.05), (0.2, 1.0)])
def test_intervals_hold_as_often_as_they_say_however_sure_the_method_is(sd, believed):
    chance = random.Random(11)
    calibration = Calibration()
    for _ in range(150):
        calibration.take(moments(chance, sd, believed), least=0.001)
    given = calibration.answer({"monte_carlo": Raw(100.0, believed, believed)}, 0.5, least=0.001)
    held = sum(given.covers(100.0 * math.exp(chance.gauss(0, sd))) for _ in range(4000)) / 4000
    assert 0.74 <= held <= 0.87
    assert calibration.coverage == pytest.approx(0.8, abs=0.07)


def test_a_method_that_did_better_is_believed_and_the_first_one_until_then():
    good, bad = Raw(100.0, 0.1, 0.1), Raw(30.0, 0.1, 0.1)
    calibration = Calibration()
    said = {"monte_carlo": bad, "work_weighted": good}
    assert calibration.answer(said, 0.5, least=0.001).method == "monte_carlo"
    for _ in range(5):
        calibration.take([(0.5, 100.0, said)] * 4, least=0.001)
    assert calibration.answer(said, 0.5, least=0.001).method == "work_weighted"


def test_a_method_that_does_not_look_at_steps_is_not_believed_where_they_tell_something_else():
    """It was the best one while lists were of one length; this list is ten times as long."""
    calibration = Calibration()
    for _ in range(8):
        said = {"monte_carlo": Raw(115.0, 0.1, 0.1), "median_of_last_runs": Raw(100.0, 0.1, 0.1)}
        calibration.take([(0.5, 100.0, said)] * 4, least=0.001)
    assert calibration.answer(said, 0.5, least=0.001).method == "median_of_last_runs"
    longer = {"monte_carlo": Raw(1000.0, 0.1, 0.1), "median_of_last_runs": Raw(100.0, 0.1, 0.1)}
    told = calibration.answer(longer, 0.5, least=0.001)
    assert told.method == "monte_carlo"
    assert told.p50 > 700


def test_a_steady_error_is_taken_back():
    calibration = Calibration()
    for _ in range(20):
        calibration.take([(0.5, 200.0, {"monte_carlo": Raw(100.0, 0.2, 0.2)})] * 4, least=0.001)
    told = calibration.answer({"monte_carlo": Raw(50.0, 0.2, 0.2)}, 0.5, least=0.001)
    assert told.p50 == pytest.approx(100.0, rel=0.1)


def test_what_is_remembered_is_bounded():
    calibration = Calibration()
    for _ in range(300):
        calibration.take([(0.5, 100.0, {"monte_carlo": Raw(100.0, 0.2, 0.2)})] * 8, least=0.001)
    assert len(calibration.judged) <= 41 * 8
    assert len(calibration.held) == 200
    assert all(isinstance(one, Judged) for one in calibration.judged)
