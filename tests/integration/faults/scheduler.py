"""One actor at a time, chosen by a seed: threads that hand the turn over before each transaction, and where they wait.

An actor never holds a transaction while another moves, so every order of transactions can be played, and the same
seed plays the same one. What two transactions do to each other inside the database is for real processes to show.
"""

import contextlib
import sys
import threading
import traceback

from django.db import OperationalError, connection, connections

from apps.core import bell
from tests.support.death import _NOT_OURS, _WRITES, at_once

STUCK_AFTER = 60.0  # seconds: an actor waits for another that cannot move, as for a lock that is held over a statement


class Killed(BaseException):
    """The process of this actor is gone: nothing of it runs on, only the database undoes what was open."""


class Actor(threading.Thread):
    """A process as far as the database is concerned: a connection of its own, and a body that goes on for ever."""

    def __init__(self, scheduler, name, body):
        super().__init__(name=name, daemon=True)
        self.scheduler, self.body = scheduler, body
        self.go = threading.Semaphore(0)
        self.until = 0.0  # virtual seconds: it does nothing before
        self.doomed = False
        self.over = False
        self.error = None

    def run(self):
        _local.actor = self
        self.go.acquire()
        try:
            with connection.execute_wrapper(_single):
                if not self.doomed:
                    self.body(self)
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.over = True
            with contextlib.suppress(Exception):
                connection.close()
            self.scheduler.main.release()

    def hand_over(self):
        """Let another move. Raises `Killed` when this one is not to move again."""
        self.scheduler.main.release()
        self.go.acquire()
        if self.doomed:
            raise Killed


_local = threading.local()


def _single(execute, sql, params, many, context):
    """A statement outside a transaction. What begins one has handed over already, and holds the writers' lock."""
    actor, writes = _local.actor, bool(_WRITES.match(sql))
    ours = any(name in sql for name in _NOT_OURS)
    if context["connection"].in_atomic_block or ours or actor.doomed or not (writes or sql.startswith("SELECT")):
        return execute(sql, params, many, context)
    actor.hand_over()
    if not writes:
        return execute(sql, params, many, context)
    return actor.scheduler.commit(actor, lambda: execute(sql, params, many, context))


class Scheduler:
    """`faults` says how probable each is at each chance: killed, unanswered, dropped, repeated."""

    def __init__(self, rng, clock, faults):
        self.rng, self.clock, self.faults = rng, clock, faults
        self.main = threading.Semaphore(0)
        self.actors = []
        self.counts = dict.fromkeys(("commits", "killed", "unanswered", "dropped", "repeated", "rings", "steps"), 0)
        self.trace = []
        self.listeners = []  # called with (topic) for every ring that arrives
        self._posted = []  # (virtual second, topic): rings on their way

    def spawn(self, name, body):
        actor = Actor(self, name, body)
        self.actors.append(actor)
        actor.start()
        return actor

    def step(self):
        """Let one actor move up to where it next hands over; gives False when none can move now."""
        self._deliver()
        able = [actor for actor in self.actors if actor.until <= self.clock.seconds]
        if not able:
            return False
        actor = self.rng.choice(able)
        self.counts["steps"] += 1
        self.trace.append(actor.name)
        self._resume(actor)
        if actor.over:
            self.actors.remove(actor)
            actor.join()
        if actor.error:
            raise actor.error
        return True

    def _resume(self, actor):
        actor.go.release()
        if not self.main.acquire(timeout=STUCK_AFTER):
            frame = sys._current_frames().get(actor.ident)
            where = "".join(traceback.format_stack(frame)) if frame else "it is gone"
            raise AssertionError(f"{actor.name} neither handed over nor ended in {STUCK_AFTER} s:\n{where}")

    def chance(self, fault):
        if self.faults.get(fault, 0.0) and self.rng.random() < self.faults[fault]:
            self.counts[fault] += 1
            return True
        return False

    def kill(self, actor):
        actor.doomed = True
        self._resume(actor)
        self.actors.remove(actor)
        actor.join()

    def end(self):
        for actor in list(self.actors):
            self.kill(actor)

    # -- what actors run into ------------------------------------------------------------------------------------------

    def commit(self, actor, really):
        self.counts["commits"] += 1
        if actor.doomed:
            return really()
        if self.chance("killed"):
            actor.doomed = True
            if self.rng.random() < 0.5:
                really()
            raise Killed
        if self.chance("unanswered"):
            if self.rng.random() < 0.5:
                really()
            raise OperationalError("the connection was lost while it committed")
        return really()

    def ring(self, topic, ids=()):
        self.counts["rings"] += 1
        if self.chance("dropped"):
            return
        for _ in range(2 if self.chance("repeated") else 1):
            self._posted.append((self.clock.seconds + self.rng.choice([0.0, 0.0, 0.1, 2.0]), topic))

    def _deliver(self):
        due = [post for post in self._posted if post[0] <= self.clock.seconds]
        self._posted = [post for post in self._posted if post[0] > self.clock.seconds]
        for _, topic in due:
            for listener in self.listeners:
                listener(topic)

    @contextlib.contextmanager
    def installed(self):
        """Transactions and doorbells of actors go through here."""
        kind = type(connections["default"])
        commit, begin, ring = kind._commit, kind.set_autocommit, bell.ring

        def _commit(wrapper):
            actor = getattr(_local, "actor", None)
            if actor is None:
                return commit(wrapper)
            try:
                return self.commit(actor, lambda: commit(wrapper))
            except Killed:
                # What was open is undone before another moves: a server that finds out by itself that a client is gone
                # holds its locks for a moment more, and SQLite's driver commits where Django ends the transaction.
                wrapper._rollback()
                raise

        def _begin(wrapper, autocommit, **values):
            actor = getattr(_local, "actor", None)
            if actor is not None and not autocommit and not actor.doomed:
                actor.hand_over()
            return begin(wrapper, autocommit, **values)

        def _one_statement(really):
            actor = getattr(_local, "actor", None)
            if actor is None or actor.doomed:
                return really()
            actor.hand_over()
            return self.commit(actor, really)

        kind._commit, kind.set_autocommit, bell.ring = _commit, _begin, self.ring
        try:
            with at_once(_one_statement):
                yield self
                self.end()
        finally:
            self.end()
            kind._commit, kind.set_autocommit, bell.ring = commit, begin, ring
