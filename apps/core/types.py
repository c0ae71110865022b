"""The one word for data that came from, or goes to, JSON."""

from collections.abc import Mapping, Sequence

JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]
