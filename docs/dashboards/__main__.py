"""Writes the chart's dashboards.

    python -m docs.dashboards [--check]
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from docs.dashboards import drift, loop, platform, rollout, serving
from docs.dashboards.kit import Page, dashboard
from shared.docs.generated import write_or_check

FOLDER = Path(__file__).parents[2] / "charts" / "tuneloop" / "dashboards"
PAGES: tuple[Page, ...] = (loop.PAGE, rollout.PAGE, drift.PAGE, serving.PAGE, platform.PAGE)


def outputs() -> dict[Path, str]:
    """What each file should hold."""
    return {
        FOLDER / f"{page.name}.json":
            json.dumps(dashboard(page), cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n"
        for page in PAGES
    }


def main(arguments: list[str]) -> int:
    """Write or check the files; the exit code."""
    return write_or_check(outputs(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
