"""Every alert: its rule, its trial, its page. `scripts/monitoring.py` writes the operators' files from this table."""

from collections.abc import Mapping

from apps.monitoring.alerts.critical import CRITICAL
from apps.monitoring.alerts.declared import JOB, SEVERITIES, Alert
from apps.monitoring.alerts.informing import INFORMING
from apps.monitoring.alerts.lesser import LESSER

__all__ = ["ALERTS", "BY_NAME", "JOB", "SEVERITIES", "Alert"]

ALERTS: tuple[Alert, ...] = (*CRITICAL, *LESSER, *INFORMING)
BY_NAME: Mapping[str, Alert] = {alert.name: alert for alert in ALERTS}
