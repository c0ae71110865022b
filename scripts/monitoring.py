"""`python scripts/monitoring.py`: writes the files in monitoring/ that come from code; `--check` only compares."""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestration.settings.test")


def generated() -> dict[str, str]:
    """Text by path in the repository."""
    import django

    django.setup()
    import dashboards

    from apps.monitoring.alerts import files

    return {**files.files(), **dashboards.dashboards()}


def main() -> int:
    """Write them, or say which differ (status 1)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    different = []
    for name, text in generated().items():
        path = ROOT / name
        if path.exists() and path.read_text() == text:
            continue
        different.append(name)
        if not check:
            path.write_text(text)
    for name in different:
        print(f"{name} {'differs: run python scripts/monitoring.py' if check else 'rewritten'}")
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
