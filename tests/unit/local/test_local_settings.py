"""What the local stack puts into a service's environment is what the service's settings class takes."""

import importlib
import runpy
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.cli.local import plan as planning
from services.cli.local.checks import Binaries
from services.cli.local.home import Credentials, Home

DOCS = runpy.run_path(str(Path(__file__).parents[3] / "docs" / "settings.py"))
assert set(DOCS["SERVICES"]) == set(planning.SERVICES)


@pytest.mark.parametrize("service", planning.SERVICES)
def test_a_services_environment_is_accepted_and_a_typo_is_not(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planning.Plan(
        home=Home(tmp_path), ports=planning.PORTS, binaries=Binaries("prometheus", "weed", "tansu"),
        credentials=Credentials("key", "secret"), options=planning.Options("tiny"), inherited={},
    )
    component = next(item for item in planning.services(plan) if item.name == service)
    assert importlib.util.find_spec(component.argv[2]) is not None
    for name, value in component.env.items():
        monkeypatch.setenv(name, value)
    settings = DOCS["settings_class"](DOCS["SERVICES"][service])
    assert settings().http_port == planning.PORTS[service]
    monkeypatch.setenv("TUNELOOP_KAFKA_BOOTSTRP", "x")
    with pytest.raises(ValidationError, match="TUNELOOP_KAFKA_BOOTSTRP"):
        settings()


def test_the_page_of_all_settings_is_current() -> None:
    assert DOCS["PAGE"].read_text() == DOCS["page"](), "run `make generate`"
