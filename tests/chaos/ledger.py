"""The ledger of `make chaos`, `docs/chaos.json`: what was hurt how often, by which versions, with which verdict.

Every part of a run adds to it as soon as it is done, so a run may be stopped at any time and goes on the next time.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

PATH = Path(__file__).resolve().parents[2] / "docs" / "chaos.json"
FIGURES = (
    "histories", "seeds", "commits", "commits_cut", "rings_cut", "kills", "stops", "server_kills",
    "database_restarts", "executions", "steps", "attempts", "events", "lost", "violations",
)  # fmt: skip


@dataclass
class Ledger:
    """`next_seed` by database is where the simulation goes on; `totals` are of all runs, `runs` newest last."""

    next_seed: dict = field(default_factory=dict)
    totals: dict = field(default_factory=dict)
    recovery_max: float = 0.0
    runs: list = field(default_factory=list)

    @classmethod
    def read(cls, path=PATH):
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()

    def add(self, part, database, figures, of, *, recovery=0.0, first=""):
        """What one part found, on `database` ("sqlite", "postgresql"), by the versions `of`."""
        found = {name: figures[name] for name in FIGURES if figures.get(name)}
        for name, count in found.items():
            self.totals[name] = self.totals.get(name, 0) + count
        self.recovery_max = max(self.recovery_max, recovery)
        run = {"part": part, "database": database, "of": of, "figures": found}
        if figures.get("violations"):
            self.runs.append({**run, "verdict": "violated", "first": first[:500]})
            return
        same = [one for one in self.runs if (one["part"], one["database"], one["of"]) == (part, database, of)]
        same = [one for one in same if one["verdict"] == "clean"]
        if same:
            for name, count in found.items():
                same[0]["figures"][name] = same[0]["figures"].get(name, 0) + count
        else:
            self.runs.append({**run, "verdict": "clean"})

    def write(self, path=PATH):
        """As a whole, so that a run that is stopped leaves it readable."""
        fresh = path.with_suffix(".fresh")
        fresh.write_text(json.dumps(self.__dict__, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        fresh.replace(path)
