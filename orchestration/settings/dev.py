"""Development and the demo: keys are generated, the loopback names are allowed, commands may run as processes."""

from orchestration.environment import kept_key
from orchestration.settings.base import *  # noqa: F403
from orchestration.settings.base import ALLOWED_HOSTS, ENV

SECRET_KEY = ENV.SECRET_KEY or kept_key(ENV, "SECRET_KEY")
JWT_SIGNING_KEY = ENV.JWT_SIGNING_KEY or kept_key(ENV, "JWT_SIGNING_KEY")
ALLOWED_HOSTS = ALLOWED_HOSTS or ["localhost", "127.0.0.1", "[::1]", "testserver"]
PROCESS_STEPS = ENV.PROCESS_STEPS or "trusted"
