"""How the CLI fails: an exit code that scripts can use, and one line that says what, where and what to do."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every ``tuneloop`` command; docs/cli.md shows this table."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    ENDED_BADLY = 5


MEANING = {
    ExitCode.OK: "done",
    ExitCode.REFUSED: "the system refused it or failed at it: an invalid file, a conflict, an error in a service",
    ExitCode.USAGE: "the command line is wrong, or tuneloop cannot know which stack is meant",
    ExitCode.NOT_FOUND: "the named thing does not exist",
    ExitCode.UNREACHABLE: "a service does not answer",
    ExitCode.ENDED_BADLY: "what was awaited ended badly: dataset rejected, run failed, gate not passed, rolled back",
}


class CliError(Exception):
    """Ends the command with `code`; the message is for the person."""

    def __init__(self, message: str, code: ExitCode = ExitCode.REFUSED) -> None:
        super().__init__(message)
        self.code = code
