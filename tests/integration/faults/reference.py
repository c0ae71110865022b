"""What an execution is, in a few lines and without a database: what the engine is held against.

Steps have `needs`, `retries` (with one fixed delay) and a budget of lost performers; nothing else.
"""

from dataclasses import dataclass, field

TERMINAL = ("completed", "failed", "cancelled", "skipped")


@dataclass
class ModelTask:
    needs: tuple
    retries: int
    delay: float
    lost: int
    status: str = "pending"
    ready_at: float | None = None
    fence: int = 0
    failures: int = 0
    losses: int = 0
    owner: str = ""
    until: float = 0.0


@dataclass
class ModelExecution:
    """Times are in seconds. Every method answers what the engine has to answer: accept, ignore or reject."""

    tasks: dict
    status: str = "pending"
    stopping: bool = False
    begun: bool = False
    results: dict = field(default_factory=dict)

    @classmethod
    def of(cls, steps, now):
        execution = cls({name: ModelTask(**rules) for name, rules in steps.items()})
        for task in execution.tasks.values():
            if not task.needs:
                task.ready_at = now
        return execution

    @property
    def over(self):
        return self.status in TERMINAL

    def may_start(self, name, now):
        task = self.tasks[name]
        let = not (self.over or self.stopping or self.status == "paused")
        return let and task.status in ("pending", "waiting") and task.ready_at is not None and task.ready_at <= now

    def claim(self, name, owner, now, until):
        assert self.may_start(name, now), f"{name} may not start"
        task = self.tasks[name]
        self.begun = True
        self.status = "in_progress"
        task.status, task.ready_at, task.fence, task.owner, task.until = (
            "in_progress", None, task.fence + 1, owner, until,
        )  # fmt: skip
        return task.fence

    def report(self, name, fence, kind, now, *, retryable=True):
        task = self.tasks[name]
        if task.fence != fence or task.status != "in_progress":
            return "ignore" if task.fence == fence and task.status in TERMINAL else "reject"
        if kind == "completed":
            self._end(name, "completed", now)
            self.results[name] = fence
        elif self.stopping:
            self._end(name, "cancelled", now)
        elif kind == "failed":
            task.failures += 1
            if retryable and task.failures <= task.retries:
                task.status, task.ready_at, task.owner = "waiting", now + task.delay, ""
            else:
                self._end(name, "failed", now)
        elif kind == "lost":
            task.losses += 1
            if task.losses <= task.lost:
                task.status, task.ready_at, task.owner = "pending", now, ""
            else:
                self._end(name, "failed", now)
        elif kind == "released":
            task.status, task.ready_at, task.owner = "pending", now, ""
        return "accept"

    def _end(self, name, status, now):
        task = self.tasks[name]
        task.status, task.ready_at, task.owner = status, None, ""
        for other, waiting in self.tasks.items():
            if name in waiting.needs and waiting.status == "pending" and not self.stopping:
                ends = [self.tasks[need].status for need in waiting.needs]
                if all(end in TERMINAL for end in ends):
                    if all(end == "completed" for end in ends):
                        waiting.ready_at = now
                    else:
                        self._end(other, "skipped", now)
        self._close()

    def _close(self):
        ends = [task.status for task in self.tasks.values()]
        if not self.over and all(end in TERMINAL for end in ends):
            failed = "failed" if "failed" in ends else "completed"
            self.status = "cancelled" if self.stopping else failed

    def expire(self, now):
        """The reaper."""
        for name, task in self.tasks.items():
            if task.status == "in_progress" and task.until < now:
                self.report(name, task.fence, "lost", now)

    def cancel(self):
        if self.over:
            return False
        if not self.stopping:
            self.stopping = True
            if self.status == "paused":
                self.status = "in_progress" if self.begun else "pending"
            for task in self.tasks.values():
                if task.status in ("pending", "waiting"):
                    task.status, task.ready_at = "cancelled", None
            self._close()
        return True

    def pause(self):
        if self.over or self.stopping:
            return False
        self.status = "paused"
        return True

    def resume(self):
        if self.status != "paused":
            return False
        self.status = "in_progress" if self.begun else "pending"
        return True
