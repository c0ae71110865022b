"""Texts of alerts: the part of Prometheus's templates that the catalogue uses, and fingerprints of label sets."""

import math
import re
from collections.abc import Mapping

_FIELD = re.compile(
    r"\{\{\s*\$(?:labels\.(?P<label>\w+)|externalLabels\.(?P<external>\w+)|value(?:\s*\|\s*(?P<how>\w+))?)\s*\}\}"
)


def filled(template: str, *, labels: Mapping[str, str], value: float, external: Mapping[str, str]) -> str:
    """`template` with labels, external labels and the value in it."""

    def put(found: re.Match[str]) -> str:
        if name := found["label"]:
            return labels.get(name, "")
        if name := found["external"]:
            return external.get(name, "")
        return shown(value, found["how"] or "")

    return _FIELD.sub(put, template)


def shown(value: float, how: str = "") -> str:
    """A value as `humanizePercentage`, `humanizeDuration` or `humanize` show it, or plainly."""
    if not math.isfinite(value):
        return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")
    if how == "humanizePercentage":
        return f"{_four(value * 100)}%"
    if how == "humanizeDuration":
        return _duration(value)
    if how == "humanize":
        return _humanized(value)
    return f"{value:.15g}" if how == "" else _four(value)


def _four(value: float) -> str:
    return f"{value:.4g}"


def _humanized(value: float) -> str:
    if value == 0 or not 1 <= abs(value) < 1e21:
        return _four(value)
    prefixes = ("", "k", "M", "G", "T", "P", "E")
    place = min(len(prefixes) - 1, int(math.log10(abs(value)) // 3))
    return f"{_four(value / 1000**place)}{prefixes[place]}"


def _duration(seconds: float) -> str:
    if 0 < abs(seconds) < 1:
        return f"{_four(seconds * 1000)}ms"
    sign, whole = ("-", -seconds) if seconds < 0 else ("", seconds)
    days, hours, minutes = int(whole // 86400), int(whole // 3600 % 24), int(whole // 60 % 60)
    rest = whole % 60
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {int(rest)}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {int(rest)}s"
    if minutes:
        return f"{sign}{minutes}m {int(rest)}s"
    return f"{sign}{_four(rest)}s"


def fingerprint(labels: Mapping[str, str]) -> str:
    """Prometheus's fingerprint of a label set: FNV-1a of 64 bits over its sorted names and values, hexadecimal."""
    number = 0xCBF29CE484222325
    for name in sorted(labels):
        for byte in (*name.encode(), 0xFF, *labels[name].encode(), 0xFF):
            number = ((number ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{number:016x}"
