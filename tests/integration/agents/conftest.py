"""Registered agents, and a client that speaks as one."""

import itertools
import json

import pytest
from django.test import Client

from apps.agents import services
from apps.agents.models import Agent
from apps.workflows.services import executions
from apps.workflows.services.ledger import lanes

_numbers = itertools.count(1)


class Speaker:
    """An agent that speaks the protocol over HTTP."""

    def __init__(self, agent: Agent, token: str) -> None:
        self.agent, self.token, self.performer = agent, token, agent.performer
        self.client = Client(raise_request_exception=True, headers={"Authorization": f"Bearer {token}"})

    def post(self, path, body=None, agent=None):
        return self.client.post(f"/agents/{agent or self.agent.pk}/{path}", json.dumps(body or {}), "application/json")

    def claim(self, most=1):
        answer = self.post("claim", {"max": most, "wait_seconds": 0})
        assert answer.status_code == 200, answer.content
        return answer.json()["tasks"]

    def about(self, task, what, **body):
        """A report about a claimed task."""
        return self.post(f"tasks/{task['task_id']}/{what}", {"attempt": task["attempt"], **body})

    def beat(self, *tasks, **body):
        named = [{"task_id": task["task_id"], "attempt": task["attempt"]} for task in tasks]
        answer = self.post("heartbeat", {"tasks": named, **body})
        assert answer.status_code == 200, answer.content
        return answer.json()


@pytest.fixture
def make_agent(make_user):
    """`make_agent(slots=2, labels={"gpu": 1})`."""

    def make(*, slots=1, labels=None, by=None, name=None):
        name = name or f"agent-{next(_numbers)}"
        agent, token = services.register(name, labels=labels or {}, slots=slots, by=by or make_user("admin"))
        return Speaker(agent, token)

    return make


@pytest.fixture
def agent(make_agent):
    return make_agent(slots=2)


@pytest.fixture
def started(make_workflow, owner):
    """An execution of a workflow with these steps."""

    def start(*steps, **values):
        text = {"inputs": {"text": {"type": "string", "default": "hello"}}}
        workflow = make_workflow(list(steps) or [review()], **text, **values)
        lanes.forget()  # as after a commit, which these tests have none of
        return executions.start(workflow, by=owner)

    return start


def review(identity="review", **values):
    """A step for agents."""
    return {"id": identity, "agent": {"with": {"text": "${inputs.text}", "n": 3}}, **values}
