"""The callables of the example workflows: plain functions that a team would ship in a package of its own.

`CALLABLE_MODULES=examples.callables` makes each public function here callable as `examples.callables.NAME`.
"""

import csv
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent / "data"


def list_regions() -> dict[str, Any]:
    """The regions there are figures for."""
    regions = sorted(path.stem.removeprefix("sales-") for path in DATA.glob("sales-*.csv"))
    return {"regions": regions}


def summarise(region: str, context: Any, pause: float = 0.0) -> dict[str, Any]:
    """Total, mean and best day of one region's year. `pause` (seconds) makes the work slow enough to watch."""
    with (DATA / f"sales-{region}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    days: list[tuple[float, str]] = []
    months = 12
    for month in range(months):
        part = rows[month * len(rows) // months : (month + 1) * len(rows) // months]
        days += [(float(row["revenue"]), row["date"]) for row in part]
        time.sleep(pause / months)
        context.progress(100 * (month + 1) / months, f"{part[-1]['date'][:7]} read")
    revenue = [day[0] for day in days]
    best = max(days)
    context.log(f"{region}: {len(rows)} days, best {best[1]}\n")
    return {
        "region": region,
        "days": len(rows),
        "total": round(sum(revenue), 2),
        "mean": round(statistics.fmean(revenue), 2),
        "deviation": round(statistics.stdev(revenue), 2),
        "best_day": best[1],
    }


def compare(regions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The regions side by side, the best first."""
    ranked = sorted(regions, key=lambda region: -float(region["total"]))
    total = round(sum(float(region["total"]) for region in ranked), 2)
    return {
        "total": total,
        "best": ranked[0]["region"],
        "shares": {str(region["region"]): round(100 * float(region["total"]) / total, 1) for region in ranked},
    }
