"""The plan of a local stack: pure, and consistent with what the services accept."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from services.cli.local import plan as planning
from services.cli.local.checks import Binaries, MachineError, check_disk, choose_ports, find_vllm, port_is_free
from services.cli.local.home import Credentials, Home, write_private
from services.cli.local.processes import STACK_ID, restart_delay
from services.cli.local.supervisor import Request, tail
from services.serving.settings import AgentSettings
from shared.errors import TuneloopError


@pytest.fixture
def plan(tmp_path: Path) -> planning.Plan:
    return planning.Plan(
        home=Home(tmp_path), ports=planning.PORTS, binaries=Binaries("prometheus", "weed", "tansu"),
        credentials=Credentials("key", "secret"), options=planning.Options("tiny"), inherited={"PATH": "/bin"},
    )


def test_every_component_carries_the_stack_id_so_that_none_is_left_behind(plan: planning.Plan) -> None:
    components = [planning.storage(plan), planning.broker(plan), planning.prometheus(plan), *planning.services(plan)]
    assert {component.env[STACK_ID] for component in components} == {plan.home.stack_id}
    assert len({component.name for component in components}) == len(components)


def names_and_urls(plan: planning.Plan) -> dict[str, str]:
    return {component.argv[2]: component.url for component in planning.services(plan)}


def test_vllm_stands_behind_a_proxy_only_where_faults_are_wanted(plan: planning.Plan) -> None:
    real = replace(plan, options=planning.Options("tiny", engine="vllm"))
    tested = replace(plan, options=planning.Options("tiny", engine="vllm", fault_hooks=True))
    modules = {"services.serving.engine", "services.serving.vllm_server", "services.serving.fault_proxy"}
    found = {name: names_and_urls(item) for name, item in {"small": plan, "real": real, "tested": tested}.items()}
    engine, vllm = plan.url("engine"), plan.url("vllm")
    assert {name: {m: urls[m] for m in urls.keys() & modules} for name, urls in found.items()} == {
        "small": {"services.serving.engine": engine},
        "real": {"services.serving.vllm_server": engine},
        "tested": {"services.serving.vllm_server": vllm, "services.serving.fault_proxy": engine},
    }
    # The gateway goes through the proxy; the agent does not.
    for item, url in ((plan, engine), (real, engine), (tested, vllm)):
        agent = planning.service_settings(item, "serving")
        assert (agent["TUNELOOP_ENGINE_URL"], agent["TUNELOOP_ADVERTISED_ENDPOINT"]) == (url, engine)


def test_the_plugin_reads_the_file_that_the_agent_writes(plan: planning.Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    real = replace(plan, options=planning.Options("tiny", engine="vllm"))
    for name, value in planning.service_settings(real, "serving").items():
        monkeypatch.setenv(name, value)
    assert AgentSettings().wanted_file == Path(planning.service_settings(real, "engine")["TUNELOOP_WANTED_FILE"])


def test_a_machine_without_vllm_is_told_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"no .*\.venv-vllm/bin/python\. Run `make install-vllm`"):
        find_vllm(tmp_path)


def test_prometheus_scrapes_every_service(plan: planning.Plan) -> None:
    config = yaml.safe_load(planning.prometheus_config(plan))
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets == {name: [f"127.0.0.1:{planning.PORTS[name]}"] for name in planning.SERVICES}


def test_ports_do_not_collide() -> None:
    assert len(set(planning.PORTS.values())) == len(planning.PORTS)


def test_a_taken_port_is_replaced_unless_a_person_asked_for_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not port_is_free(port)
        chosen = choose_ports({"gateway": port, "registry": port})
        assert port not in chosen.values()
        assert len(set(chosen.values())) == 2
        with pytest.raises(MachineError, match=f"port {port} for gateway is taken; stop what listens there"):
            choose_ports({"gateway": port}, {"gateway"})


def test_a_full_disk_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"has 0\.5 GiB free, and the stack needs 4\. Free some space, or set"):
        check_disk(tmp_path, free_bytes=lambda _: 2**29)
    check_disk(tmp_path, free_bytes=lambda _: 2**33)


def test_restarts_wait_longer_each_time_but_not_for_ever() -> None:
    waits = [restart_delay(n) for n in range(1, 12)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.25, 10.0)


def test_the_stack_file_is_private_whole_and_survives_damage_with_words(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert home.read_stack() is None
    home.create()
    home.write_stack({"phase": "ready"})
    assert home.read_stack() == {"phase": "ready"}
    assert home.stack_file.stat().st_mode & 0o777 == 0o600
    home.stack_file.write_text("{")
    with pytest.raises(TuneloopError, match="is damaged"):
        home.read_stack()


def test_credentials_are_made_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    made = home.credentials()
    assert home.credentials() == made
    assert len(made.secret_key) == 40
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600


def test_a_request_survives_its_way_to_the_supervisor() -> None:
    request = Request(planning.Options("tiny", fault_hooks=True), {"gateway": 1234}, parent=7)
    assert Request.decode(request.encode()) == request


def test_s3_gets_the_keys_that_the_services_use(plan: planning.Plan) -> None:
    identity = json.loads(json.dumps(planning.s3_config(plan.credentials)))["identities"][0]
    environment = planning.service_settings(plan, "trainer")
    assert identity["credentials"] == [{
        "accessKey": environment["TUNELOOP_S3_ACCESS_KEY"], "secretKey": environment["TUNELOOP_S3_SECRET_KEY"],
    }]


def test_the_end_of_a_log_fits_an_error_message(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert tail(log) == "(no log)"
    write_private(log, "a\nb\nc\nd\n")
    assert tail(log, 2) == "c | d"
