"""The memory of this machine, what of it rows take, and what a person is told where it runs out."""

from typing import Any

import pytest
import torch
from datasets import Dataset

from services.trainer.job.memory import explained, longest_row, memory_here
from shared.errors import PermanentError
from shared.recipe import TrainingRecipe


def test_the_longest_row_is_found_for_each_objective() -> None:
    assert longest_row(Dataset.from_list([{"input_ids": [1] * 3}, {"input_ids": [1] * 5}])) == 5
    assert longest_row(Dataset.from_list([{"prompt_ids": [1] * 4, "chosen_ids": [1], "rejected_ids": [1, 2, 3]}])) == 7


def test_the_memory_of_a_machine_is_what_its_group_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def unlimited() -> str:
        return "max\n"

    _, total = memory_here(unlimited)
    assert memory_here(lambda: "1000000\n") == (False, 1_000_000)
    assert total > 10**8


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: not enough memory: you tried to allocate"),
])
def test_where_it_runs_out_the_person_is_told_what_to_change(error: Any) -> None:
    with pytest.raises(PermanentError, match=r"out of memory: lower training.batchSize \(now 16\)"), \
            explained(TrainingRecipe()):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explained(TrainingRecipe()):
        raise RuntimeError("shapes cannot be multiplied")
