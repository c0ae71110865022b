"""The bugs that `make plant` plants: of the kind that loses work, and of the kind that lets somebody in."""

from collections.abc import Sequence
from dataclasses import dataclass

FAULTS = "tests/integration/faults"
LEDGER = "tests/integration/workflows/test_ledger.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """What is replaced by what in `path`, and where it should be noticed; with `postgres`, on that database alone."""

    name: str
    path: str
    find: str
    put: str
    tests: Sequence[str]
    only: str = ""
    postgres: bool = False


OF_WORK = (
    Bug(
        name="unfenced heartbeat",
        path="apps/workflows/services/leases.py",
        find=r'" WHERE id = %s AND fence = %s AND status = \'in_progress\' AND lease_owner = %s",\n'
        r"(\s+)\[sql\.time_in\(until\), sql\.uuid_in\(task\), fence, owner\],",
        put=r'" WHERE id = %s AND status = \'in_progress\'",\n\1[sql.time_in(until), sql.uuid_in(task)],',
        tests=(LEDGER, f"{FAULTS}/test_model.py"),
    ),
    Bug(
        name="publish before commit",
        path="apps/workflows/signals.py",
        find=r"^    transaction\.on_commit\(send\)$",
        put="    send()",
        tests=(f"{FAULTS}/test_announcing.py",),
    ),
    Bug(
        name="count-then-start fan-in",
        path="apps/workflows/engine/decide/opening.py",
        find=r"^        if not told\.waiting_on:\n            open_task\(changes, spec, told\)$",
        put="        if told.waiting_on <= 1:\n            open_task(changes, spec, told)",
        tests=(f"{FAULTS}/test_crash_at_commit.py", LEDGER),
        only="diamond",
    ),
    Bug(
        name="wall clock on the worker",
        path="apps/core/clock.py",
        find=r"^    told, at = _reading\n    passed = time\.monotonic\(\) - at\n    return [^\n]+$",
        put="    return datetime.now(UTC)",
        tests=(f"{FAULTS}/test_crash_at_commit.py",),
        only="retry",
        postgres=True,
    ),
    Bug(
        name="missing savepoint",
        path="apps/workflows/services/requests.py",
        find=r"^            with transaction\.atomic\(\):\n                (IdempotencyKey\.objects\.create\([^\n]+)$",
        put=r"            \1",
        tests=("tests/integration/workflows/test_idempotency.py",),
        postgres=True,
    ),
)

TOKENS = "tests/integration/accounts/test_tokens.py"
HARDENING = "tests/integration/test_hardening.py"
FRAME = "tests/integration/accounts/test_frame.py"
MATRIX = "tests/integration/matrix/test_matrix.py"
PARSERS = "tests/unit/core/test_parsers.py"


def _of(case: str, what: str, path: str, find: str, put: str, *tests: str) -> Bug:
    """A bug that the tests of this case, A1 to A40, are to notice."""
    return Bug(name=f"{case} {what}", path=path, find=find, put=put, tests=tests, only=f"{case.lower()}_")


_ENVIRONMENT, _TOKENS = "orchestration/environment.py", "apps/accounts/tokens.py"
_SERVICES, _PARSERS = "apps/accounts/services.py", "apps/core/api/parsers.py"
_START = "tests/unit/test_environment.py"
_ADMIN = "tests/integration/accounts/test_services.py"
_ENDS = "tests/integration/accounts/test_users.py"
_AGENTS = "tests/integration/agents/test_credential.py"
OF_RIGHTS = (
    _of("A1", "a short key starts", _ENVIRONMENT, r"^        if _weak\(key\):$", "        if not key:", _START),
    _of("A1", "one key for both starts", _ENVIRONMENT,
        r"if env\.SECRET_KEY and env\.SECRET_KEY == ", "if not ", _START),
    _of("A1", "DEBUG starts", _ENVIRONMENT, r"^    if debug:$", "    if debug is None:", _START),
    _of("A1", "any host starts", _ENVIRONMENT, r' or "\*" in env\.ALLOWED_HOSTS:', ":", _START),
    _of("A1", "several processes with a channel layer in memory", _ENVIRONMENT, r"env\.SERVER_PROCESSES > 1 and ",
        "env.SERVER_PROCESSES > 9 and ", _START),
    _of("A1", "a default password", "apps/accounts/management/commands/create_admin.py",
        r"given = settings\.ENV\.ADMIN_PASSWORD", 'given = settings.ENV.ADMIN_PASSWORD or "admin admin admin"', _ADMIN),
    _of("A2", "any audience", _TOKENS, r"audience=AUDIENCE, issuer=ISSUER, leeway=0\)",
        'audience=AUDIENCE, issuer=ISSUER, leeway=0)\n        self.audience = None', TOKENS),
    _of("A2", "any issuer", _TOKENS, r"audience=AUDIENCE, issuer=ISSUER, leeway=0\)",
        'audience=AUDIENCE, issuer=ISSUER, leeway=0)\n        self.issuer = None', TOKENS),
    _of("A2", "any type", _TOKENS, r'^    """simplejwt\'s token under our keys, issuer and audience\."""$',
        '    def verify_token_type(self):\n        pass', TOKENS),
    _of("A2", "expired ones hold", _TOKENS, r"leeway=0", "leeway=10**9", TOKENS),
    _of("A2", "an unknown kid is taken for the newest", _TOKENS, r"return self\._keys\[kid\]",
        "return self._keys.get(kid, self._newest)", "tests/integration/accounts/test_keys.py", TOKENS),
    _of("A2", "no bound on length", _TOKENS, r" or len\(raw\) > MAX_TOKEN_LENGTH", "", TOKENS),
    _of("A3", "used as often as one likes", _TOKENS, r"family=family, used_at=None\)", "family=family)", TOKENS),
    _of("A3", "the family lives on", _TOKENS, r"^        RefreshFamily\.objects\.filter\(pk=family\.pk\)\.update\("
        r"revoked_at=now\)$", "        pass", TOKENS),
    _of("A3", "nobody is told", _TOKENS, r'^        record\("auth\.refresh-reuse"[^\n]*$', "        pass",
        "tests/integration/audit/test_audit.py"),
    _of("A4", "a password ends nothing", _SERVICES,
        r'(save\(update_fields=\["password"\]\))\n    tokens\.revoke_all\(user\)',
        r"\1", TOKENS),
    _of("A4", "roles end nothing", _SERVICES, r"(user\.roles\.set\(after\)\n[^\n]*\n)    tokens\.revoke_all\(user\)",
        r"\1", TOKENS),
    _of("A4", "disabling ends nothing", _TOKENS, r'is_active=True, token_version=version\)$',
        "token_version=version)", TOKENS),
    _of("A4", "logout ends nothing", _TOKENS,
        r'user=OuterRef\("pk"\), revoked_at=None\)', 'user=OuterRef("pk"))', TOKENS),
    _of("A4", "logout-all leaves the version", _TOKENS, r'F\("token_version"\) \+ 1', 'F("token_version")', TOKENS),
    _of("A8", "deleting asks for reading", "apps/workflows/api/workflows.py",
        r'"destroy": Permission\.WORKFLOW_DELETE', '"destroy": Permission.WORKFLOW_READ', MATRIX),
    _of("A8", "the gate forgets who owns", "apps/workflows/models/gate.py",
        r"return self\.filter\(owner \| ", "return self.filter(", MATRIX),
    _of("A8", "the gate lets all in", "apps/workflows/models/gate.py",
        r"^        if holds_by_role\(user, permission\):$", "        if user.is_authenticated:", MATRIX),
    _of("A12", "a service asks for less", "apps/workflows/api/webhooks.py",
        r"^        self\.require\(webhook\.workflow, Permission\.WORKFLOW_EXECUTE\)$", "        pass",
        "tests/integration/matrix/test_scopes.py"),
    _of("A12", "an agent speaks as another", "apps/agents/api/protocol.py",
        r'^        if self\.kwargs\["id"\] != agent\.pk:$', "        if not agent.pk:", _AGENTS),
    _of("A12", "whose lease it is is not asked", "apps/agents/ledger.py",
        r"row\.lease_owner == agent\.performer and ", "", _AGENTS),
    _of("A12", "an agent's credential is an account's", "apps/accounts/api_tokens.py",
        r"^    if key\.audience != ApiToken\.Audience\.API:$", "    if not key.audience:", _AGENTS),
    _of("A4", "disabling an agent ends nothing", "apps/agents/api/authentication.py",
        r"^        if agent\.disabled:$", "        if agent.disabled is None:", _AGENTS),
    _of("A4", "a waiting claim outlives its right", "apps/agents/waiting.py",
        r"allowed\.get\(waiter\.agent\.pk\)", "allowed.get(waiter.agent.pk, waiter.agent)",
        "tests/integration/agents/test_waiting.py"),
    _of("A21", "NUL passes", _PARSERS, r'^    if "\\0" in text:$', "    if not text:", PARSERS, FRAME),
    _of("A21", "surrogates pass", _PARSERS, r"^    if not text\.isascii\(\):$", "    if not text:", PARSERS),
    _of("A21", "NaN passes", _PARSERS, r', parse_constant=_constant', "", PARSERS),
    _of("A21", "a key twice passes", _PARSERS, r"if len\(value\) == len\(pairs\):", "if value is not None:", PARSERS),
    _of("A21", "thousands of digits pass", _PARSERS, r"if len\(text\) <= 20 else None", "if text else None", PARSERS),
    _of("A21", "NUL in a path passes", "apps/core/api/middleware.py",
        r'"\\0" in request\.path_info or "%00" in request\.META\.get\("QUERY_STRING", ""\)', "request is None", FRAME),
    _of("A21", "any depth passes", _PARSERS,
        r"^            if depth > MAX_DEPTH:$", "            if depth > 10**9:", PARSERS),
    _of("A22", "a page without a bound", "apps/core/api/pagination.py", r"return MAX_LIMIT if [^\n]+$",
        "return int(given)", HARDENING, FRAME),
    _of("A22", "negative pages", "apps/core/api/pagination.py",
        r'not \(given\.isascii\(\) and given\.isdigit\(\)\) or not given\.strip\("0"\)', "given is None", HARDENING),
    _of("A24", "inline scripts", "apps/core/api/middleware.py",
        r"script-src 'self'", "script-src 'self' 'unsafe-inline'",
        HARDENING, FRAME),
    _of("A24", "a name as markup", "templates/ui/_executions.html", r"\{\{ row\.workflow\.name \}\}</a>",
        "{{ row.workflow.name|safe }}</a>", HARDENING, "tests/integration/web/test_pages.py"),
)  # fmt: skip
