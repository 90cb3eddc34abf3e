"""Who of several training processes writes, and what one alone does."""

import pytest

from services.trainer.job.team import Team


@pytest.mark.parametrize(("environ", "team", "leads"), [
    ({}, Team(0, 1), True),
    ({"RANK": "0", "WORLD_SIZE": "2"}, Team(0, 2), True),
    ({"RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16"}, Team(9, 16), False),
])
def test_the_first_process_of_all_nodes_leads(environ: dict[str, str], team: Team, leads: bool) -> None:
    assert Team.of(environ) == team
    assert team.leads is leads


def test_one_alone_asks_nobody() -> None:
    assert Team().any(True) is True
    assert Team().any(False) is False
    Team().disband()
