"""JSON pointers (RFC 6901): how a problem says where it is."""


def pointer(*path: str | int) -> str:
    """The pointer to `path`: `pointer("steps", 2, "a/b")` is `/steps/2/a~1b`."""
    return "".join(f"/{_escaped(part) if isinstance(part, str) else part}" for part in path)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
