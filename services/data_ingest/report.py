"""What a preparation found, for people and for `decide`. Pure.

The report is part of the dataset version, so nothing in it may differ when the same bytes are prepared again: no
ids, no times.
"""

from collections import Counter

from pydantic import BaseModel, Field

from services.data_ingest.examples import Example
from services.data_ingest.lengths import LengthCounter, LengthProfile
from services.data_ingest.split import SPLITS, Split
from shared.pipeline import DatasetRules

MAX_EXAMPLES = 5
MAX_IGNORED_KEYS = 50
MAX_TASKS = 100
MAX_TEACHERS = 20


class Problem(BaseModel):
    """One bad row: its number in the file, from 1, and what is wrong with it."""

    row: int
    message: str


class Report(BaseModel):
    """A dataset's counts.

    Attributes:
        rows_in: rows that are not blank; the sum of `rows`, `rejected` and `duplicates`.
        rejected: bad rows by reason; `problems` has the first examples of each.
        duplicates: rows whose prompt and answer were there before.
        conflicting_prompts: prompts that have more than one answer; all of their rows are kept.
        tasks: kept rows of each task by split, of the first `MAX_TASKS` tasks and one more.
        teachers: kept rows by the model that answered them, where rows say so; of the first `MAX_TEACHERS`.
        ignored_keys: keys of rows that mean nothing here, with the number of rows that have them.
    """

    source_sha256: str
    source_bytes: int
    rules: DatasetRules
    rows_in: int = 0
    blank: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    problems: dict[str, list[Problem]] = Field(default_factory=dict)
    duplicates: int = 0
    conflicting_prompts: int = 0
    rows: dict[Split, int] = Field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    tasks: dict[str, dict[Split, int]] = Field(default_factory=dict)
    teachers: dict[str, int] = Field(default_factory=dict)
    ignored_keys: dict[str, int] = Field(default_factory=dict)
    prompt_characters: LengthProfile | None = None
    answer_characters: LengthProfile | None = None

    @property
    def rows_rejected(self) -> int:
        return sum(self.rejected.values())

    @property
    def rows_kept(self) -> int:
        return sum(self.rows.values())

    @property
    def dropped(self) -> dict[str, int]:
        """All rows that are not in the dataset version, by reason."""
        return self.rejected | ({"duplicate": self.duplicates} if self.duplicates else {})


class Tally:
    """Counts while the file is read, in bounded memory."""

    def __init__(self) -> None:
        self.rows_in = 0
        self.blank = 0
        self.duplicates = 0
        self.rows: Counter[Split] = Counter()
        self._tasks: dict[str, Counter[Split]] = {}
        self._teachers: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._problems: dict[str, list[Problem]] = {}
        self._ignored: Counter[str] = Counter()
        self._prompts, self._answers = LengthCounter(), LengthCounter()

    def reject(self, row: int, code: str, message: str) -> None:
        """Count a bad row."""
        self._rejected[code] += 1
        examples = self._problems.setdefault(code, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(Problem(row=row, message=message))

    def keep(self, split: Split, example: Example) -> None:
        """Count a good row."""
        self.rows[split] += 1
        messages, task, teacher = example.messages, example.task, example.teacher
        if task is not None and (task in self._tasks or len(self._tasks) <= MAX_TASKS):
            self._tasks.setdefault(task, Counter())[split] += 1
        if teacher is not None and (teacher in self._teachers or len(self._teachers) < MAX_TEACHERS):
            self._teachers[teacher] += 1
        if len(messages) > 1:  # a text has no prompt
            self._prompts.add(sum(len(content) for _, content in messages[:-1]))
        self._answers.add(len(messages[-1][1]))

    def ignore(self, keys: tuple[str, ...]) -> None:
        """Count keys that mean nothing here."""
        for key in keys:
            if key in self._ignored or len(self._ignored) < MAX_IGNORED_KEYS:
                self._ignored[key] += 1

    def report(self, *, source_sha256: str, source_bytes: int, rules: DatasetRules, conflicting: int) -> Report:
        """The finished report."""
        return Report(
            source_sha256=source_sha256, source_bytes=source_bytes, rules=rules, rows_in=self.rows_in,
            blank=self.blank, rejected=dict(sorted(self._rejected.items())),
            problems=dict(sorted(self._problems.items())), duplicates=self.duplicates,
            conflicting_prompts=conflicting, rows={split: self.rows[split] for split in SPLITS},
            tasks={task: {split: count[split] for split in SPLITS} for task, count in sorted(self._tasks.items())},
            teachers=dict(sorted(self._teachers.items())), ignored_keys=dict(sorted(self._ignored.items())),
            prompt_characters=self._prompts.profile(), answer_characters=self._answers.profile(),
        )
