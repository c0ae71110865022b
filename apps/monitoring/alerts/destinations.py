"""Who is told by the Alertmanager: the committed file with an operator's own destinations in its receivers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings

FILE = Path(__file__).resolve().parents[3] / "monitoring" / "alertmanager.yml"
HEAD = "# Written by `manage.py alertmanager_config`: change the settings that it reads, not this.\n"
SETTINGS: Mapping[str, str] = {"pager": "ALERT_PAGER", "operators": "ALERT_OPERATORS", "watchdog": "ALERT_WATCHDOG"}
"""The setting that names a receiver's destinations."""

_TITLE = "{{ .CommonLabels.alertname }} ({{ .Status }}): {{ .CommonAnnotations.summary }}"
_TEXT = "{{ range .Alerts }}{{ .Annotations.description }}\n{{ .Annotations.runbook_url }}\n{{ end }}"


def rendered() -> tuple[str, list[str]]:
    """The file, and the receivers that tell nobody. Raises ValueError for mail without a server to send it."""
    config: dict[str, Any] = yaml.safe_load(FILE.read_text())
    told = {name: tuple(getattr(settings.ENV, setting)) for name, setting in SETTINGS.items()}
    if any(one.startswith("mailto:") for some in told.values() for one in some):
        config = {"global": _mail(), **config}
    config["receivers"] = [_receiver(one["name"], told[one["name"]]) for one in config["receivers"]]
    text = HEAD + yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=1000)
    return text, [name for name, destinations in told.items() if not destinations]


def _receiver(name: str, destinations: Sequence[str]) -> dict[str, Any]:
    """One of the file's receivers. The watchdog has nothing to say when it ends: that it falls silent is the alarm."""
    resolved = name != "watchdog"
    found: dict[str, Any] = {"name": name}
    for one in destinations:
        kind, _, rest = one.partition(":")
        if kind == "mailto":
            headers = {"Subject": _TITLE}
            found.setdefault("email_configs", []).append({"to": rest, "send_resolved": resolved, "headers": headers})
        elif kind == "slack":
            message = {"api_url": rest, "send_resolved": resolved, "title": _TITLE, "text": _TEXT}
            found.setdefault("slack_configs", []).append(message)
        else:
            found.setdefault("webhook_configs", []).append({"url": one, "send_resolved": resolved})
    return found


def _mail() -> dict[str, Any]:
    env = settings.ENV
    sender = env.EMAIL_FROM or env.EMAIL_HOST_USER
    if not env.EMAIL_HOST or not sender:
        raise ValueError("an alert is to be mailed: set EMAIL_HOST, and EMAIL_FROM or EMAIL_HOST_USER")
    found: dict[str, Any] = {
        "smtp_smarthost": f"{env.EMAIL_HOST}:{env.EMAIL_PORT}", "smtp_from": sender,
        "smtp_require_tls": env.EMAIL_USE_TLS,
    }  # fmt: skip
    if env.EMAIL_HOST_USER:
        found |= {"smtp_auth_username": env.EMAIL_HOST_USER, "smtp_auth_password": env.EMAIL_HOST_PASSWORD}
    return found
