"""The two questions: what is left of a run, and what is learnt from one that has ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from apps.workflows.estimate.calibration import Calibration, Given
from apps.workflows.estimate.methods import all_of, floor_of
from apps.workflows.estimate.profile import Profile, profile_of
from apps.workflows.estimate.shapes import Run, Shape, Situation, as_of

MOMENTS = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.85, 0.93)  # of a run at which it is judged when it has ended
SLOTS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds left: 80 % of outcomes lie between `p10` and `p90`, as far as the past can tell.

    `runs` is on how many past runs it rests, `coverage` the share of past intervals that held, None while too few.
    """

    p10: float
    p50: float
    p90: float
    method: str
    runs: int
    coverage: float | None


def estimate(profile: Profile, now: Situation, calibration: Calibration, *, seed: int) -> Estimate:
    """What is left of a run."""
    given = _given(profile, now, calibration, seed=seed)
    return Estimate(
        p10=given.p10,
        p50=given.p50,
        p90=given.p90,
        method=given.method,
        runs=len(profile.runs),
        coverage=calibration.coverage,
    )


def _given(profile: Profile, now: Situation, calibration: Calibration, *, seed: int) -> Given:
    said = all_of(profile, now, seed=seed)
    middle = (said.get("monte_carlo") or next(iter(said.values()))).seconds
    return calibration.answer(said, now.elapsed / max(1e-9, now.elapsed + middle), least=floor_of(profile))


def learn(
    shape: Shape, before: Sequence[Run], ended: Run, calibration: Calibration, *, slots: int = SLOTS
) -> Calibration:
    """Judge a run that has ended by those before it; gives the calibration, which remembers how that went."""
    if not before:
        return calibration
    profile = profile_of(shape, before)
    least = floor_of(profile)
    judged = []
    for number, share in enumerate(MOMENTS):
        moment = share * ended.seconds
        said = all_of(profile, as_of(ended, shape, moment, slots=slots), seed=calibration.runs * 100 + number)
        middle = (said.get("monte_carlo") or next(iter(said.values()))).seconds
        judged.append((moment / max(1e-9, moment + middle), max(least, ended.seconds - moment), said))
    calibration.take(judged, least=least)
    return calibration
