"""A job for the launcher's tests: does what its arguments say, one after another.

    say TEXT | env NAME | exit CODE | sleep SECONDS | child FILE | term-file FILE | slow-term SECONDS | count FILE
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn


def main(words: list[str]) -> None:
    for word, value in zip(words[::2], words[1::2], strict=True):
        _do(word, value)


def _do(word: str, value: str) -> None:
    if word == "say":
        sys.stdout.write(value + "\n")
    elif word == "env":
        sys.stdout.write(f"{value}={os.environ.get(value)}\n")
    elif word == "exit":
        sys.exit(int(value))
    elif word == "sleep":
        time.sleep(float(value))
    elif word == "child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        Path(value).write_text(f"{os.getpid()} {child.pid}")
    elif word == "term-file":
        signal.signal(signal.SIGTERM, lambda *_: _touch_and_exit(Path(value)))
    elif word == "slow-term":
        signal.signal(signal.SIGTERM, lambda *_: _exit_after(float(value)))
    elif word == "count":
        with Path(value).open("a") as file:
            file.write("x")
    else:
        raise ValueError(f"unknown word {word!r}")


def _exit_after(seconds: float) -> NoReturn:
    time.sleep(seconds)
    sys.exit(0)


def _touch_and_exit(path: Path) -> NoReturn:
    path.touch()
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
