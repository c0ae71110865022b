"""What is learnt of executions that ended, what is kept of estimates that were served, and what metrics tell of it."""

from datetime import timedelta
from uuid import UUID

import pytest
from uuid6 import uuid7

from apps.monitoring import facts
from apps.monitoring.collectors import find
from apps.workflows.models import (
    Event,
    Execution,
    Experience,
    PastRun,
    Prediction,
    PredictionTotal,
    StepWeights,
)
from apps.workflows.selectors.estimates import history
from apps.workflows.selectors.estimates import weights as known_weights
from apps.workflows.selectors.estimates.outcomes import outcomes
from apps.workflows.services import executions
from apps.workflows.services.estimates import folding, settle
from apps.workflows.services.estimates.folding import Folder, fold
from apps.workflows.services.estimates.learner import Learner
from tests.integration.conftest import noop
from tests.integration.workflows.driver import accepted, check_rows, claim, done, drive, failed

pytestmark = pytest.mark.django_db


@pytest.fixture
def workflow(make_workflow):
    return make_workflow([noop("a"), noop("b", "a")], name="Report")


def test_an_execution_is_learnt_from_once(workflow, past):
    made = past(workflow, {"a": 10, "b": 30})[0]
    assert fold(workflow.pk) == 0
    assert list(PastRun.objects.values_list("execution_id", "seconds")) == [(made.pk, 40.0)]
    assert Experience.objects.get(workflow=workflow).number == 1


def test_who_comes_second_has_worked_for_nothing(workflow, past, monkeypatch):
    """Two processes learn of the same execution at the same time."""
    made = past(workflow, {"a": 10, "b": 30}, learnt=False)[0]
    real = history.run_of

    def while_another_learns(execution):
        run = real(execution)
        monkeypatch.setattr(history, "run_of", real)
        assert fold(workflow.pk) == 1
        return run

    monkeypatch.setattr(history, "run_of", while_another_learns)
    assert fold(workflow.pk) == 0
    assert list(PastRun.objects.values_list("execution_id", flat=True)) == [made.pk]
    assert Experience.objects.get(workflow=workflow).number == 1


def test_what_is_kept_is_bounded(workflow, past, monkeypatch):
    monkeypatch.setattr(history, "KEPT", 3)
    made = past(workflow, *[{"a": 10 + k, "b": 30} for k in range(6)])
    kept = list(PastRun.objects.order_by("finished_at").values_list("execution_id", flat=True))
    assert kept == [one.pk for one in made[-3:]]
    assert history.kept_runs(100) == 3
    monkeypatch.undo()
    assert (history.kept_runs(10), history.kept_runs(400), history.kept_runs(10_000)) == (40, 20, 3)


def test_a_run_is_kept_as_it_went(make_workflow, owner):
    """A retry, a skipped step and items, read from rows and journal, and the same after being kept."""
    workflow = make_workflow(
        [
            noop("a", retries=2),
            noop("no", "a", when="${1 == 2}"),
            noop("load", "a", for_each="${inputs.numbers}"),
        ],
        name="Mixed",
        inputs={"numbers": {"type": "array"}},
    )
    execution = executions.start(workflow, by=owner, inputs={"numbers": [1, 2, 3]})
    accepted(failed(claim()["a"]))
    drive()
    execution.refresh_from_db()
    assert execution.status == "completed"
    first = Event.objects.filter(execution=execution, type="task.started", step_id="a").order_by("seq").first()
    Event.objects.filter(execution=execution, seq=first.seq).update(at=first.at - timedelta(seconds=5))
    Execution.objects.filter(pk=execution.pk).update(started_at=first.at - timedelta(seconds=5))
    execution = Execution.objects.select_related("workflow").get(pk=execution.pk)
    run = history.run_of(execution)
    assert run.steps["a"].attempt - run.steps["a"].started == pytest.approx(5, abs=1)
    assert run.steps["no"].skipped
    assert run.steps["load"].items == 3
    assert len(run.steps["load"].marks) == 3
    kept = history.of_json(run.seconds, history.as_json(run))
    assert set(kept.steps) == set(run.steps)
    for name, took in run.steps.items():
        assert kept.steps[name].items == took.items
        assert kept.steps[name].skipped == took.skipped
        assert kept.steps[name][:4] == pytest.approx(took[:4], abs=1e-5)
        assert kept.steps[name].marks == pytest.approx(took.marks, abs=1e-5)


def test_a_paused_run_teaches_nothing(workflow, owner):
    execution = executions.start(workflow, by=owner)
    executions.pause(execution, by=owner)
    executions.resume(execution, by=owner)
    drive()
    fold(workflow.pk)
    assert not PastRun.objects.exists()
    assert fold(workflow.pk) == 0


def test_a_folder_finds_what_has_ended_and_rests(workflow, past):
    past(workflow, {"a": 10, "b": 30}, {"a": 11, "b": 31}, learnt=False)
    rests = []
    folder = Folder(rest=rests.append)
    assert folder.fold_due() is not None
    assert PastRun.objects.count() == 2
    assert len(rests) == 1
    folder.fold_due()
    assert Experience.objects.get(workflow=workflow).number == 2


def test_what_takes_long_is_computed_by_another_process(workflow, past, monkeypatch):
    past(workflow, {"a": 10, "b": 30}, {"a": 11, "b": 31}, learnt=False)
    asked = []

    class Watched(Learner):
        def __call__(self, *values, **named):
            asked.append(super().__call__(*values, **named))
            return asked[-1]

    monkeypatch.setattr(folding, "Learner", Watched)
    Folder(rest=lambda seconds: None).fold_due()
    assert [calibration.runs for calibration in asked] == [0, 1]


# --- percentages ------------------------------------------------------------------------------------------------------


def test_i7_percentages_are_weighted_by_what_steps_cost(workflow, owner, past):
    past(workflow, {"a": 10, "b": 90})
    made = StepWeights.objects.get(workflow=workflow)
    assert made.by_step == {"a": 0.2, "b": 1.8}
    unweighted = executions.start(workflow, by=owner)  # begun before they hold
    accepted(done(claim()["a"]))
    unweighted.refresh_from_db()
    assert unweighted.percent == 50.0
    drive()
    StepWeights.objects.filter(pk=made.pk).update(id=UUID(int=((uuid7().int >> 80) - 1000) << 80))
    known_weights._known.clear()
    execution = executions.start(workflow, by=owner)
    accepted(done(claim()["a"]))
    execution.refresh_from_db()
    assert execution.percent == 10.0
    drive()
    check_rows(execution)
    assert execution.percent == 100.0
    percents = [event.data["overall_percent"] for event in Event.objects.filter(execution=execution).order_by("seq")]
    assert percents == sorted(percents)
    assert all(percent <= 99 for percent in percents[:-1])


def test_weights_hold_for_executions_that_begin_later_and_never_change_for_one(workflow, owner, past):
    past(workflow, {"a": 10, "b": 90})
    made = StepWeights.objects.get(workflow=workflow)
    execution = executions.start(workflow, by=owner)
    assert made.pk > execution.pk
    assert known_weights.weights_of(workflow.pk, execution.pk, _graph(execution)) is None
    later = UUID(int=made.pk.int + (1 << 80))
    assert known_weights.weights_of(workflow.pk, later, _graph(execution)).by_step == {"a": 0.2, "b": 1.8}


def test_weights_cost_no_query_while_they_are_known(workflow, owner, django_assert_num_queries):
    execution = executions.start(workflow, by=owner)
    graph = _graph(execution)
    known_weights.weights_of(workflow.pk, execution.pk, graph)
    with django_assert_num_queries(0):
        known_weights.weights_of(workflow.pk, execution.pk, graph)


def _graph(execution):
    from apps.workflows.selectors.graphs import graph_of

    return graph_of(execution.version_id)


# --- what was served --------------------------------------------------------------------------------------------------


def test_what_was_served_is_kept_with_its_outcome(reader, workflow, owner, past):
    past(workflow, *[{"a": 100 + k, "b": 300} for k in range(4)])
    execution = executions.start(workflow, by=owner)
    tasks = claim()
    told = reader.get("/progress/report/estimate").json()
    assert reader.get("/progress/report/estimate").status_code == 200
    kept = Prediction.objects.get(execution=execution)  # the first of its tenth alone
    assert (kept.left, round(kept.p50, 3), kept.method) == (None, told["p50"], told["method"])
    assert settle() == 0
    accepted(done(tasks["a"]))
    drive()
    execution.refresh_from_db()
    Execution.objects.filter(pk=execution.pk).update(finished_at=kept.at + timedelta(seconds=kept.p50 * 2.2))
    assert settle() == 1
    kept.refresh_from_db()
    assert kept.left == pytest.approx(kept.p50 * 2.2)
    assert settle() == 0
    came = outcomes()
    assert (came.count, came.covered + came.missed) == (1, 1)
    assert came.total == pytest.approx(1.2 / 2.2, abs=1e-4)
    assert came.within == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_what_did_not_complete_says_nothing_of_its_estimate(reader, workflow, owner, past):
    past(workflow, {"a": 100, "b": 300})
    execution = executions.start(workflow, by=owner)
    task = claim()["a"]
    assert reader.get("/progress/report/estimate").json()["p50"]
    accepted(failed(task, retryable=False))
    assert Prediction.objects.filter(execution=execution).count() == 1
    settle()
    assert not Prediction.objects.exists()
    assert not PredictionTotal.objects.exists()


def test_served_estimates_are_kept_in_bounded_space_and_counted_for_ever(reader, workflow, owner, past, monkeypatch):
    from apps.workflows.services.estimates import settling

    monkeypatch.setattr(settling, "KEPT", 2)
    past(workflow, {"a": 100, "b": 300})
    for _ in range(4):
        executions.start(workflow, by=owner)
        task = claim()["a"]
        assert reader.get("/progress/report/estimate").json()["p50"]
        accepted(done(task))
        drive()
        assert settle() == 1
    assert Prediction.objects.count() == 2
    assert outcomes().count == 4


def test_an_answer_does_not_depend_on_being_kept(reader, workflow, owner, past, monkeypatch):
    from django.db import DatabaseError

    from apps.workflows.services.estimates import serving

    def broken(_told):
        raise DatabaseError("no")

    monkeypatch.setattr(serving, "_keep", broken)
    past(workflow, {"a": 100, "b": 300})
    executions.start(workflow, by=owner)
    claim()
    assert reader.get("/progress/report/estimate").json()["p50"]


def test_metrics_tell_of_errors_and_coverage(workflow):
    def told(name):
        facts.cache.forget()
        return find(name).samples

    assert told("dagger_eta_interval_total") == {("true",): 0, ("false",): 0}  # from the start
    assert told("dagger_eta_error_ratio")[()].count == 0
    PredictionTotal.objects.bulk_create(
        PredictionTotal(name=name, value=value)
        for name, value in (("le 0.1", 3), ("le 1", 1), ("le", 1), ("sum", 7.5), ("covered", 4), ("missed", 1))
    )
    assert told("dagger_eta_interval_total") == {("true",): 4, ("false",): 1}
    errors = told("dagger_eta_error_ratio_bucket")[()]
    assert (errors.count, errors.microseconds) == (5, 7_500_000)
    assert errors.within == [0, 3, 3, 3, 3, 3, 4, 4, 4]


def test_pruning_takes_predictions_with_their_executions_and_leaves_past_runs(reader, workflow, owner, past):
    from apps.workflows.services.erasing import erase

    past(workflow, {"a": 100, "b": 300})
    executions.start(workflow, by=owner)
    task = claim()["a"]
    assert reader.get("/progress/report/estimate").json()["p50"]
    accepted(done(task))
    drive()
    gone = erase(Execution.objects.filter(workflow=workflow))
    assert gone["workflows_prediction"] == 1
    assert PastRun.objects.count() == 1
