"""Which paths of the host a container may see: those beneath VOLUME_ROOTS, wherever symbolic links lead."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from apps.executors.container.config import Volume
from apps.executors.container.work import NotPerformed


def allowed(volumes: Iterable[Volume], roots: Sequence[Path]) -> tuple[Volume, ...]:
    """The volumes with their real sources. Raises NotPerformed: `refused`, or `invalid` where there is nothing."""
    return tuple(volume.model_copy(update={"source": str(_real(volume.source, roots))}) for volume in volumes)


def _real(source: str, roots: Sequence[Path]) -> Path:
    if not roots:
        message = f"the volume {source} cannot be mounted: no directory of the host may be (set VOLUME_ROOTS)"
        raise NotPerformed("refused", message, retryable=False)
    try:
        path = Path(source).resolve(strict=True)
    except (OSError, RuntimeError):
        path = None
    real_roots = [root.resolve() for root in roots]
    # Whether a path outside exists is nobody's business: it is refused alike.
    if not any(_beneath(path or Path(source).resolve(), root) for root in real_roots):
        where = ", ".join(str(root) for root in roots)
        message = f"the volume {source} cannot be mounted: it is not beneath one of VOLUME_ROOTS ({where})"
        raise NotPerformed("refused", message, retryable=False)
    if path is None:
        message = f"the volume {source} cannot be mounted: there is no such file or directory on this host; make it"
        raise NotPerformed("invalid", message, retryable=False)
    return path


def _beneath(path: Path, root: Path) -> bool:
    return path == root or root in path.parents
