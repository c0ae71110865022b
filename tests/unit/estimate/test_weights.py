"""What steps weigh, and percentages counted by it; trackers as chains of tenths."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.workflows.engine.graph import Graph, StepSpec, Weights
from apps.workflows.engine.moves import Changes
from apps.workflows.engine.states import Status
from apps.workflows.engine.types import ExecutionState, Snapshot, TaskState
from apps.workflows.estimate import (
    Calibration,
    Run,
    Took,
    differ,
    estimate,
    profile_of,
    shape_of_a_track,
    situation_of_a_track,
    track,
    weights_of,
)


def run(**seconds):
    return Run(sum(seconds.values()), {name: Took(0, 0, 0, took) for name, took in seconds.items()})


def test_weights_are_the_medians_of_the_work_scaled_to_a_mean_of_one():
    assert weights_of([run(a=1.0, b=3.0), run(a=1.0, b=3.0), run(a=50.0, b=3.0)]) == {"a": 0.5, "b": 1.5}
    assert weights_of([]) == {}


def test_items_weigh_all_together():
    took = Took(0, 0, 0, 10.0, 40, 1.0)
    assert weights_of([Run(10.0, {"load": took, "a": Took(0, 0, 0, 10.0)})]) == {"load": 1.6, "a": 0.4}


def test_no_step_weighs_nothing():
    assert weights_of([run(a=0.0, b=1000.0)])["a"] > 0


def test_small_changes_give_no_new_weights():
    assert not differ({"a": 1.0, "b": 1.0}, {"a": 1.05, "b": 0.95})
    assert differ({"a": 1.0, "b": 1.0}, {"a": 0.4, "b": 1.6})
    assert not differ({}, {"a": 1.0, "b": 1.0})


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(
    st.lists(st.floats(0.02, 50), min_size=2, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 99), st.booleans()), max_size=30),
)
def test_a_percentage_never_falls_and_is_at_most_99_before_the_end(weights, moves):
    steps = {
        f"s{k}": StepSpec(id=f"s{k}", ordinal=k + 1, name="", kind="python", config={}) for k in range(len(weights))
    }
    graph = Graph(steps=steps)
    weighed = Weights.of(graph, {f"s{k}": weight for k, weight in enumerate(weights)})
    tasks = {name: TaskState(ordinal=spec.ordinal, step_id=name) for name, spec in steps.items()}
    state = ExecutionState(status=Status.IN_PROGRESS)
    for place, percent, ended in moves:
        name = f"s{place % len(weights)}"
        changes = Changes(Snapshot(graph=graph, execution=state, tasks=tasks, weights=weighed), NOW)
        before = tasks[name]
        # A retry begins at nothing again; what has ended stays.
        told = 100.0 if ended or before.percent == 100.0 else percent
        changes.put(before, before._replace(percent=told))
        tasks[name] = changes.task(name)
        assert state.percent <= changes.execution.percent <= 99.0
        state = changes.execution


def test_a_step_counts_for_what_it_weighs():
    steps = {name: StepSpec(id=name, ordinal=k + 1, name="", kind="python", config={}) for k, name in enumerate("ab")}
    graph = Graph(steps=steps)
    task = TaskState(ordinal=1, step_id="a")
    for weights, percent in ((None, 50.0), (Weights.of(graph, {"a": 0.5, "b": 1.5}), 25.0)):
        changes = Changes(Snapshot(graph=graph, execution=ExecutionState(), tasks={"a": task}, weights=weights), NOW)
        changes.put(task, task._replace(percent=100.0))
        assert changes.execution.percent == percent


def test_a_trackers_run_is_a_chain_of_tenths():
    told = track([(0.0, 0.0), (10.0, 50.0), (40.0, 100.0)], 40.0)
    assert told.seconds == 40.0
    assert told.steps["50 %"].ended == pytest.approx(10.0)
    assert told.steps["60 %"].seconds == pytest.approx(6.0)
    assert told.steps["100 %"].ended == pytest.approx(40.0)


def test_a_tracker_is_judged_by_its_own_past():
    """The second half has always taken four times what the first took: a straight line would say 10 s."""
    runs = [track([(0, 0), (10 * f, 50), (50 * f, 100)], 50.0 * f) for f in (1.0, 1.1, 0.9, 1.05, 0.95)]
    now = situation_of_a_track([(0.0, 0.0), (10.0, 50.0)], 50.0, 10.0)
    told = estimate(profile_of(shape_of_a_track(), runs), now, Calibration(), seed=1)
    assert told.p50 == pytest.approx(40.0, rel=0.25)
    assert [step.state for step in now.steps] == ["done"] * 5 + ["running"] + ["open"] * 4
