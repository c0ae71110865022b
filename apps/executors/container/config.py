"""What a container step is given: its image, its command, and what it may see and use."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from apps.executors.process.config import Environment, Text

OWN = "/orchestration"
"""The platform's own place in a container."""

ARTIFACTS = f"{OWN}/artifacts"
"""The directory of a container in which it leaves files."""

LEAST_MEMORY = 6 << 20
"""Bytes; Docker starts no container with less."""

_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)(K|M|G|T|Ki|Mi|Gi|Ti|)B?")
_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)")


def memory_bytes(text: str) -> int:
    """`512M`, `1.5Gi`, `67108864` in bytes. Raises ValueError for what is none of these, or less than Docker takes."""
    found = _MEMORY.fullmatch(text)
    if not found:
        raise ValueError('must be bytes, or a number with K, M, G, Ki, Mi or Gi: "512M"')
    number = int(float(found[1]) * (_UNITS | _BINARY)[found[2]])
    if not LEAST_MEMORY <= number <= 1 << 60:
        raise ValueError(f"must be at least {LEAST_MEMORY >> 20} Mi")
    return number


def nano_cpus(text: str) -> int:
    """`1`, `0.5`, `500m` in billionths of a processor. Raises ValueError for what is none of these."""
    found = _CPU.fullmatch(text)
    if not found:
        raise ValueError('must be processors, or thousandths of one: "2", "0.5", "500m"')
    number = int(float(found[1]) * (1_000_000 if found[2] else 1_000_000_000))
    if not 1_000_000 <= number <= 10_000 * 1_000_000_000:
        raise ValueError('must be at least "0.001", a thousandth of a processor')
    return number


def _measured(text: str) -> str:
    memory_bytes(text)
    return text


def _counted(text: str) -> str:
    nano_cpus(text)
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise ValueError("must be an absolute path: /data")
    return text


def _inside(text: str) -> str:
    path = PurePosixPath(_absolute(text))
    if ".." in path.parts or str(path) in ("/", "//"):
        raise ValueError("must be a directory of the container beneath its root, without `..`: /data")
    if PurePosixPath(OWN) in (path, *path.parents):
        raise ValueError(f"{OWN} is the platform's own: mount it elsewhere")
    return str(path)


HostPath = Annotated[str, StringConstraints(max_length=4_096), AfterValidator(_absolute)]
Target = Annotated[str, StringConstraints(max_length=4_096), AfterValidator(_inside)]
Command = Annotated[list[Text], Field(min_length=1, max_length=10_000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Volume(_Part):
    """A directory or file of the host, seen inside the container."""

    source: HostPath
    target: Target
    read_only: bool = False


class Cache(_Part):
    """A directory that the runtime keeps between steps of one workflow."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)
    target: Target


class Resources(_Part):
    """Upper limits: `cpu` in cores (`"1"`, `"0.5"`, `"500m"`), `memory` in bytes or with K, M, G, Ki, Mi, Gi."""

    cpu: Annotated[str, StringConstraints(max_length=20), AfterValidator(_counted)] | None = None
    memory: Annotated[str, StringConstraints(max_length=20), AfterValidator(_measured)] | None = None


class Registry(_Part):
    """Who pulls the image from its registry."""

    username: str = Field(min_length=1, max_length=1_000)
    password: str = Field(min_length=1, max_length=100_000)


class Config(_Part):
    """What runs, and what it may see and use. `secrets` are variables whose values the runtime is asked to hide."""

    image: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$", max_length=500)
    command: Command | None = None
    environment: Environment = Field(default_factory=dict)
    secrets: Environment = Field(default_factory=dict)
    volumes: list[Volume] = Field(default_factory=list, max_length=100)
    caches: list[Cache] = Field(default_factory=list, max_length=20)
    resources: Resources = Field(default_factory=Resources)
    user: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$")
    network: Literal["default", "none"] = "default"
    registry: Registry | None = None
    engine_cache: bool = False

    @model_validator(mode="after")
    def _each_place_once(self) -> Self:
        seen: set[str] = set()
        for target in [*(volume.target for volume in self.volumes), *(cache.target for cache in self.caches)]:
            if target in seen:
                raise ValueError(f"`{target}` is mounted twice: give each volume and cache a target of its own")
            seen.add(target)
        return self
