"""The tables of docs/estimates.md: errors and coverage by band, and the goals with what was reached."""

from collections.abc import Mapping
from statistics import quantiles

from benchmarks.estimates.evaluate import BANDS, OURS, Scores
from benchmarks.estimates.references import NAIVE, REFERENCES
from benchmarks.tables import table

LEAST, MOST = 0.76, 0.86
SIZES, REPEATS = 0.75, 1.1


def of_kind(scores: Scores) -> str:
    """Median relative error of the time left, and the share of 80 % intervals that held, at each share of the time."""
    rows = []
    for name in (OURS, *REFERENCES):
        errors = [f"{scores.error(name, band):.2f}" for band in BANDS]
        held = [scores.coverage(name, band) for band in BANDS]
        rows.append((name, *errors, *("–" if share is None else f"{100 * share:.0f} %" for share in held)))
    bands = [f"{100 * band:.0f} %" for band in BANDS]
    return table(("estimator", *(f"error at {band}" for band in bands), *(f"held at {band}" for band in bands)), rows)


def goals(found: Mapping[str, Scores]) -> str:
    """What was aimed at, and whether it was reached: by these very figures."""
    rows = []
    for kind, scores in found.items():
        held = [scores.coverage(OURS, band) or 0.0 for band in BANDS]
        within = all(LEAST <= share <= MOST for share in held)
        told = ", ".join(f"{100 * share:.1f}" for share in held)
        rows.append((f"{kind}: 76 to 86 % of intervals hold, in every band", told, _reached(within)))
    if scores_of := found.get("sizes"):
        ratios = {band: _ratio(scores_of, NAIVE, band) for band in BANDS if band >= 0.25}
        told = ", ".join(f"{ratio:.2f}" for ratio in ratios.values())
        what = "sizes: error at most 0.75× the best naive reference, from 25 % on"
        rows.append((what, told, _reached(max(ratios.values()) <= SIZES)))
        beside = [_ratio(scores_of, tuple(REFERENCES), band) for band in BANDS if band >= 0.25]
        rows.append(("sizes: the same beside all references (no goal)", ", ".join(f"{r:.2f}" for r in beside), "–"))
    if scores_of := found.get("repeats"):
        ratios = {band: _ratio(scores_of, tuple(REFERENCES), band) for band in BANDS}
        told = ", ".join(f"{ratio:.2f}" for ratio in ratios.values())
        what = "repeats: error at most 1.1× the best of all references, in every band"
        rows.append((what, told, _reached(max(ratios.values()) <= REPEATS)))
    return table(("goal", "measured, band by band", "reached"), rows)


def _reached(well: bool) -> str:
    return "yes" if well else "**no**"


def _ratio(scores: Scores, names: tuple[str, ...], band: float) -> float:
    return scores.error(OURS, band) / max(1e-9, min(scores.error(name, band) for name in names))


def about(found: Mapping[str, Scores]) -> str:
    """How much was judged, which methods were believed, what an estimate cost, and what coverage answers told."""
    rows = []
    for kind, scores in found.items():
        cost = quantiles([1000 * one for one in scores.seconds], n=20) if len(scores.seconds) > 1 else [0.0] * 19
        total = sum(scores.methods.values())
        methods = ", ".join(f"{name} {100 * count / total:.0f} %" for name, count in sorted(scores.methods.items()))
        told = sum(scores.told) / len(scores.told) if scores.told else 0.0
        judged = f"{len(scores.errors[OURS, BANDS[0]]):,}"
        rows.append((kind, judged, methods, f"{cost[9]:.0f} / {cost[18]:.0f}", f"{100 * told:.0f} %"))
    head = ("kind", "runs judged", "method believed", "ms an estimate, median / p95", "coverage told, mean")
    return table(head, rows)


def whole(found: Mapping[str, Scores]) -> str:
    """All of it."""
    parts = [goals(found), about(found)]
    parts += [f"**{kind}**\n\n{of_kind(scores)}" for kind, scores in found.items()]
    return "\n\n".join(parts)
