"""Which paths of the host a container may see: those beneath VOLUME_ROOTS, wherever links lead, and never our own."""

from collections.abc import Iterable
from pathlib import Path

from apps.executors.container.config import Volume
from apps.executors.container.work import NotPerformed
from apps.executors.options import Options


def allowed(volumes: Iterable[Volume], options: Options) -> tuple[Volume, ...]:
    """The volumes with their real sources. Raises NotPerformed: `refused`, or `invalid` where there is nothing."""
    return tuple(volume.model_copy(update={"source": str(_real(volume.source, options))}) for volume in volumes)


def _real(source: str, options: Options) -> Path:
    roots = options.volume_roots
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
    if options.would_show_ours(path or Path(source)):
        message = f"the volume {source} cannot be mounted: it would show the server's own data; mount another directory"
        raise NotPerformed("refused", message, retryable=False)
    if path is None:
        message = f"the volume {source} cannot be mounted: there is no such file or directory on this host; make it"
        raise NotPerformed("invalid", message, retryable=False)
    return path


def _beneath(path: Path, root: Path) -> bool:
    return path == root or root in path.parents
