"""How long something will still take: how its past runs went, simulation through its graph, calibrated intervals.

Pure: no Django, clock, settings or I/O (but for `__main__`, which learns for another process); a neighbour of
`engine`, and neither knows the other. All times are in seconds from the start of a run. Chance comes from a seed: the
same question has the same answer. The method and its sources are in docs/estimates.md.
"""

from apps.workflows.estimate.answer import Estimate, estimate, learn
from apps.workflows.estimate.calibration import Calibration, Given
from apps.workflows.estimate.profile import Profile, profile_of
from apps.workflows.estimate.shapes import Run, Shape, Situation, Step, StepNow, Took, marks_of
from apps.workflows.estimate.tracks import shape_of_a_track, situation_of_a_track, track
from apps.workflows.estimate.weights import differ, weights_of

__all__ = [
    "Calibration",
    "Estimate",
    "Given",
    "Profile",
    "Run",
    "Shape",
    "Situation",
    "Step",
    "StepNow",
    "Took",
    "differ",
    "estimate",
    "learn",
    "marks_of",
    "profile_of",
    "shape_of_a_track",
    "situation_of_a_track",
    "track",
    "weights_of",
]
