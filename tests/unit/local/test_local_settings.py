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
SMALL, VLLM = planning.Options("tiny"), planning.Options("tiny", engine="vllm", fault_hooks=True)
COMPONENTS = [*((SMALL, name) for name in planning.SERVICES), *((VLLM, name) for name in ("serving", "engine", "vllm"))]


@pytest.mark.parametrize(("options", "name"), COMPONENTS)
def test_a_services_environment_is_accepted_and_a_typo_is_not(
    options: planning.Options, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planning.Plan(
        home=Home(tmp_path), ports=planning.PORTS, binaries=Binaries("prometheus", "weed", "tansu", "python"),
        credentials=Credentials("key", "secret"), options=options, inherited={},
    )
    component = next(item for item in planning.services(plan) if item.name == name)
    module = component.argv[2]
    assert importlib.util.find_spec(module) is not None
    for variable, value in component.env.items():
        monkeypatch.setenv(variable, value)
    assert f"{module}.settings" in DOCS["SERVICES"].values(), "its settings are in docs/settings.md"
    settings = DOCS["settings_class"](f"{module}.settings")
    assert settings().http_port == planning.PORTS[name]
    monkeypatch.setenv("TUNELOOP_KAFKA_BOOTSTRP", "x")
    with pytest.raises(ValidationError, match="TUNELOOP_KAFKA_BOOTSTRP"):
        settings()


def test_the_page_of_all_settings_is_current() -> None:
    assert DOCS["PAGE"].read_text() == DOCS["page"](), "run `make generate`"
