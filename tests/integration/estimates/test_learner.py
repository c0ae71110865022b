"""The process that judges runs: it answers as the function does, yields to everybody, and outlives nobody."""

import os
import signal

import psutil
import pytest

from apps.workflows.estimate import Calibration, Run, Shape, Step, Took, learn
from apps.workflows.estimate.__main__ import LEAST_PRIORITY
from apps.workflows.services.estimates.learner import Learner

SHAPE = Shape.of([Step(id="a"), Step(id="b", depends_on=("a",))])


def run(a, b):
    return Run(seconds=a + b, steps={"a": Took(0.0, 0.0, 0.0, a), "b": Took(a, a, a, a + b)})


BEFORE = [run(10, 20), run(12, 22), run(9, 30)]


def children():
    return psutil.Process().children()


@pytest.fixture
def learner():
    with Learner() as learner:
        yield learner


def test_it_answers_as_the_function_does(learner):
    here = learn(SHAPE, BEFORE, run(11, 21), Calibration(), slots=4)
    there = learner(SHAPE, BEFORE, run(11, 21), Calibration(), slots=4)
    assert there.runs == 1
    assert there.as_json() == here.as_json()


def test_it_is_started_at_the_first_question_yields_to_everybody_and_ends_with_the_last(learner):
    before = {child.pid for child in children()}
    learner(SHAPE, BEFORE, run(11, 21), Calibration(), slots=4)
    learner(SHAPE, BEFORE, run(11, 21), Calibration(), slots=4)
    (process,) = [child for child in children() if child.pid not in before]
    assert process.nice() == LEAST_PRIORITY
    assert "DJANGO_SETTINGS_MODULE" not in process.environ()
    learner.close()
    assert not process.is_running()


def test_one_that_dies_is_told_and_the_next_question_starts_another(learner):
    before = {child.pid for child in children()}
    learner(SHAPE, BEFORE, run(11, 21), Calibration(), slots=4)
    (process,) = [child for child in children() if child.pid not in before]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    with pytest.raises((EOFError, ConnectionError)):
        learner(SHAPE, BEFORE, run(11, 21), Calibration(), slots=4)
    assert learner(SHAPE, BEFORE, run(11, 21), Calibration(), slots=4).runs == 1
