"""The benchmark itself: what it generates really goes through its graph, and every estimator is given the same."""

import pytest

from benchmarks.estimates.evaluate import BANDS, OURS, judge_generated
from benchmarks.estimates.generator import KINDS, runs_of
from benchmarks.estimates.references import REFERENCES


@pytest.mark.parametrize("kind", KINDS)
def test_generated_runs_keep_the_law_of_their_graph(kind):
    for run in runs_of(kind, 3, 3):
        for step in run.shape.steps:
            assert run.ready[step.id] >= max((run.ended[name] for name in step.depends_on), default=0.0) - 1e-9
            assert (step.id in run.skipped) == (not run.pieces[step.id])
        spans = [span for found in (run.failed, run.pieces) for each in found.values() for span in each]
        for moment in (span.began for span in spans):
            assert sum(span.began <= moment < span.ended for span in spans) <= run.slots
        assert max(run.ended.values()) == run.seconds
        kept = run.run()
        assert kept.seconds == run.seconds
        assert set(kept.steps) == {step.id for step in run.shape.steps}


def test_a_seed_says_the_same_again():
    assert [run.seconds for run in runs_of("mixed", 9, 3)] == [run.seconds for run in runs_of("mixed", 9, 3)]


def test_every_estimator_is_judged_at_every_band():
    scores = judge_generated("sizes", 1, 4, 2)
    assert {name for name, _ in scores.errors} == {OURS, *REFERENCES}
    assert {len(found) for found in scores.errors.values()} == {2}
    assert {(OURS, band) for band in BANDS} <= set(scores.held)
