"""Families as text: Prometheus's format, or OpenMetrics (with exemplars) for a scraper that asks for it.

The platform's own are written here and not by prometheus_client, which takes ten times as long for a thousand label
sets; those of the process registry (HTTP, Python, the process) are its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from apps.monitoring.collectors import BOUNDS, Filled, Samples
from apps.monitoring.families import Declared
from apps.monitoring.sums import Durations, Exemplar

_END = b"# EOF\n"


def rendered(
    filled: Iterable[Filled], *, accept: str, registry: "CollectorRegistry | Collector | None" = None
) -> tuple[bytes, str]:
    """The body and its content type, as the `Accept` header prefers; never a refusal."""
    encode, content_type = choose_encoder(accept)
    is_openmetrics = content_type.startswith("application/openmetrics-text")
    body = "".join([_text(one, is_openmetrics) for one in filled]).encode()
    if registry is not None:
        body += encode(registry).removesuffix(_END)
    return body + (_END if is_openmetrics else b""), content_type


def registered(name: str) -> Collector | None:
    """The family of the process registry that is called `name`, or one of whose samples is."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum"),
                "info": ("_info",)}  # fmt: skip
    for family in REGISTRY.collect():
        if name == family.name or name in (f"{family.name}{end}" for end in suffixes.get(family.type, ())):
            return _Only(family)
    return None


class _Only(Collector):
    def __init__(self, family: object) -> None:
        self._family = family

    def collect(self) -> Iterator[object]:  # type: ignore[override]
        yield self._family


def floats_of(declared: Declared, value: Durations) -> Iterator[tuple[str, float]]:
    """The buckets of a histogram: (`le` as it is written, how many)."""
    limits = [*(str(floatToGoString(bound)) for bound in BOUNDS[declared.name]), "+Inf"]  # type: ignore[no-untyped-call]
    return zip(limits, map(float, (*value.within, value.count)), strict=True)


def _text(filled: Filled, is_openmetrics: bool) -> str:
    """A family, HELP and TYPE before it; what was written the last time and is still so is not written again."""
    declared = filled.declared
    before = _written.get((declared.name, is_openmetrics))
    if before is not None and before.samples == filled.samples:
        return before.text
    name = declared.family if is_openmetrics else declared.name
    known = before.parts if before is not None else {}
    parts: dict[Any, tuple[float | Durations, str]] = {}
    for values, value in filled.samples.items():
        part = known.get(values)
        if part is None or part[0] != value:
            part = value, _sample(declared, values, value, is_openmetrics)
        parts[values] = part
    head = f"# HELP {name} {declared.help}\n# TYPE {name} {declared.type}\n"
    text = head + "".join([part for _, part in parts.values()])
    _written[declared.name, is_openmetrics] = _Written(filled.samples, parts, text)
    return text


@dataclass(frozen=True, slots=True)
class _Written:
    samples: Samples
    parts: Mapping[Any, tuple[float | Durations, str]]
    text: str


_written: dict[tuple[str, bool], _Written] = {}
"""By family and format. As large as two scrapes: series are bounded, and those that are gone go from here."""


def _sample(declared: Declared, values: tuple[str, ...], value: float | Durations, is_openmetrics: bool) -> str:
    if not isinstance(value, Durations):
        return f"{declared.name}{_labels(declared.labels, values)} {float(value)}\n"
    starts, count, total = _histogram(declared, values)
    numbers = (*value.within, value.count)
    examples = value.examples if is_openmetrics else {}
    if examples:
        lines = [
            f"{start}{number}.0{_exemplar(examples.get(place))}\n"
            for place, (start, number) in enumerate(zip(starts, numbers, strict=True))
        ]
    else:
        lines = [f"{start}{number}.0\n" for start, number in zip(starts, numbers, strict=True)]
    return "".join(lines) + f"{count}{value.count}.0\n{total}{value.microseconds / 1_000_000}\n"


def _exemplar(one: Exemplar | None) -> str:
    if one is None:
        return ""
    return f' # {{span_id="{one.span_id}",trace_id="{one.trace_id}"}} {one.seconds} {one.at:.3f}'


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@lru_cache(maxsize=16_384)
def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = sorted(zip(names, values, strict=True))
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}" if pairs else ""


@lru_cache(maxsize=4_096)
def _histogram(declared: Declared, values: tuple[str, ...]) -> tuple[list[str], str, str]:
    """What stands before the numbers: of each bucket, of the count, of the sum."""
    names = (*declared.labels, "le")
    limits = [str(floatToGoString(bound)) for bound in BOUNDS[declared.name]]  # type: ignore[no-untyped-call]
    starts = [f"{declared.name}_bucket{_labels(names, (*values, limit))} " for limit in (*limits, "+Inf")]
    plain = _labels(declared.labels, values)
    return starts, f"{declared.name}_count{plain} ", f"{declared.name}_sum{plain} "
