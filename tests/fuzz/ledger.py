"""The ledger of the fuzzer, `docs/fuzz.json`: how many requests, by which seeds, with which verdict. It is added to."""

import json
from dataclasses import dataclass, field
from pathlib import Path

PATH = Path(__file__).resolve().parents[2] / "docs" / "fuzz.json"


@dataclass
class Ledger:
    """`next_seed` is where the next run goes on; `runs` are what was done, newest last."""

    next_seed: int = 1
    requests: int = 0
    statuses: dict = field(default_factory=dict)
    callers: dict = field(default_factory=dict)
    poisoned: int = 0
    runs: list = field(default_factory=list)

    @classmethod
    def read(cls, path=PATH):
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()

    def add(self, run, report, poison):
        """A run of seeds `run["seeds"]`: its answers by status, its requests by caller, what no longer answered."""
        self.next_seed = run["seeds"][1] + 1
        self.requests += run["requests"]
        self.poisoned += len(poison)
        for kept, more in ((self.statuses, report.statuses), (self.callers, report.callers)):
            for name, count in more.items():
                kept[str(name)] = kept.get(str(name), 0) + count
        if self.runs and self.runs[-1]["verdict"] == run["verdict"] == "clean" and self.runs[-1]["of"] == run["of"]:
            last = self.runs[-1]
            last["seeds"] = [last["seeds"][0], run["seeds"][1]]
            last["requests"] += run["requests"]
        else:
            self.runs.append(run)

    def write(self, path=PATH):
        """As a whole: a run that is stopped leaves the ledger as it was."""
        fresh = path.with_suffix(".fresh")
        fresh.write_text(json.dumps(self.__dict__, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        fresh.replace(path)
