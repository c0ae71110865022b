"""Who speaks on the routes of the protocol: the agent itself. Its credential opens them and nothing else."""

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from apps.accounts.callers import agent_token_in
from apps.accounts.models import ApiToken
from apps.agents.models import Agent
from apps.core.errors import Unauthenticated


class AgentCaller:
    """An agent as the caller of a request: known, and with no right of an account's."""

    is_authenticated = True
    is_anonymous = False
    is_active = True
    is_agent = True

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.pk = agent.pk

    def get_username(self) -> str:
        """Its name, as logs tell it."""
        return self.agent.performer


class AgentAuthentication(BaseAuthentication):
    """`Authorization: Bearer aoa_…`."""

    def authenticate(self, request: Request) -> tuple[AgentCaller, ApiToken] | None:
        """The agent; `None` for other credentials. Raises `Unauthenticated` for one that does not hold.

        Who brings the credential of a disabled agent may know that it is.
        """
        token = agent_token_in(request._request)
        if token is None:
            return None
        agent = Agent.objects.filter(token=token).first()
        if agent is None:
            raise Unauthenticated("The token is invalid or has expired.", code="invalid_token")
        if agent.disabled:
            message = (
                f'The agent {agent.name} is disabled: PATCH /agents/{agent.pk} {{"disabled": false}} lets it go on.'
            )
            raise Unauthenticated(message, code="agent_disabled")
        return AgentCaller(agent), token

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002
        """What a 401 tells the caller to bring."""
        return "Bearer"
