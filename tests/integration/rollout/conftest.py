"""The controller's database on SQLite and on PostgreSQL, and a stand around it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.rollout.courier import Courier
from services.rollout.webhook_http import Sender
from services.rollout.webhook_secrets import Secrets
from shared.db import connect, migrate
from tests.support.rollout_stand import MIGRATIONS, Stand, stand
from tests.support.webhook_receiver import WebhookReceiver, receive
from tests.unit.rollout.test_rollout_webhook_parts import KEY


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path}/rollout.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    made = connect(url)
    migrate(made, MIGRATIONS)
    yield made
    made.dispose()


@pytest.fixture
def controller(engine: Engine) -> Iterator[Stand]:
    with stand(engine) as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with receive() as made:
        made.answers["/rollback"] = [(404, "no")]
        yield made


@pytest.fixture
def secrets(tmp_path: Path, receiver: WebhookReceiver) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "ops").write_text(KEY)
    (folder / "slack").write_text(f"{receiver.url}/slack")
    return folder


@pytest.fixture
def courier(controller: Stand, secrets: Path) -> Courier:
    return Courier(controller.engine, Sender(Secrets(secrets)), controller.clock, owner="one")
