"""Asks each URL until it answers 200, for a minute each; what `helm test` runs. Standard library only."""

import sys
import time
import urllib.error
import urllib.request

PATIENCE_SECONDS = 60.0


def problem_with(url: str) -> str:
    """What is wrong with the answer of `url`; empty for nothing."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read(500).decode(errors='replace')}"
    except OSError as error:
        return str(error)


def main(urls: list[str], patience: float = PATIENCE_SECONDS) -> int:
    """Ask them all; the exit code."""
    failed = False
    for url in urls:
        deadline = time.monotonic() + patience
        while (problem := problem_with(url)) and time.monotonic() < deadline:
            time.sleep(1)
        print(f"{'FAILED' if problem else 'ready '}  {url}{'  ' if problem else ''}{problem}", flush=True)
        failed = failed or bool(problem)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
