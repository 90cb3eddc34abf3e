"""Jobs as real processes: launched once, seen by every launcher, ended with all that they started."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.launchers import JobSpec, JobStatus, LauncherSettings, SubprocessLauncher, launcher_from
from shared.launchers.folder import JobFolder
from shared.launchers.processes import identify
from tests.support.wait import eventually

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[SubprocessLauncher]:
    launcher = SubprocessLauncher(tmp_path / "jobs")
    yield launcher
    for folder in (tmp_path / "jobs").glob("*"):
        launcher.cancel(folder.name)
        outcome(launcher, folder.name)


def spec(name: str, *words: str, timeout_seconds: float | None = None, **env: str) -> JobSpec:
    return JobSpec(name=name, module="tests.support.sample_job", args=list(words), timeout_seconds=timeout_seconds,
                   env={"PYTHONPATH": str(ROOT), **env})


def ended(launcher: SubprocessLauncher, name: str) -> JobStatus | None:
    status = launcher.observe(name)
    return status if status.state not in {"pending", "running"} else None


def outcome(launcher: SubprocessLauncher, name: str) -> JobStatus:
    return eventually(lambda: ended(launcher, name), what=f"end of {name}")


def pids_in(path: Path) -> list[int]:
    eventually(lambda: path.exists() and path.read_text(), what=str(path))
    return [int(word) for word in path.read_text().split()]


def gone(pid: int) -> bool:
    return identify(pid) is None


def test_job_that_succeeds(launcher: SubprocessLauncher) -> None:
    assert launcher.observe("good") == JobStatus(state="absent")
    assert launcher.logs("good") == ""
    launcher.launch(spec("good", "say", "hello", "env", "COLOUR", COLOUR="blue"))
    assert outcome(launcher, "good") == JobStatus(state="succeeded", exit_code=0)
    assert launcher.logs("good") == "hello\nCOLOUR=blue\n"


def test_job_that_fails_tells_the_end_of_its_log(launcher: SubprocessLauncher) -> None:
    launcher.launch(spec("bad", "say", "no such column", "exit", "3"))
    status = outcome(launcher, "bad")
    assert (status.state, status.exit_code) == ("failed", 3)
    assert "ended with exit code 3" in status.message
    assert status.message.endswith("no such column")


def test_module_that_is_not_there(launcher: SubprocessLauncher) -> None:
    launcher.launch(JobSpec(name="none", module="no_such_module_here"))
    assert "No module named" in outcome(launcher, "none").message


def test_long_log_is_cut_at_a_line(launcher: SubprocessLauncher) -> None:
    launcher.launch(spec("long", *["say", "x" * 99] * 2000, "exit", "1"))
    message = outcome(launcher, "long").message
    assert len(message) < 3000
    assert len(launcher.logs("long")) <= 64_000
    assert set(launcher.logs("long").splitlines()) == {"x" * 99}


def test_launch_again_changes_nothing(launcher: SubprocessLauncher, tmp_path: Path) -> None:
    job = spec("once", "count", str(tmp_path / "count"))
    launcher.launch(job)
    launcher.launch(job)
    outcome(launcher, "once")
    launcher.launch(job)
    assert outcome(launcher, "once").state == "succeeded"
    assert (tmp_path / "count").read_text() == "x"


def test_many_launches_at_once_start_one_job(tmp_path: Path, launcher: SubprocessLauncher) -> None:
    job = spec("race", "count", str(tmp_path / "count"), "sleep", "0.2")
    launchers = [SubprocessLauncher(tmp_path / "jobs") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: one.launch(job), launchers))
    assert outcome(launcher, "race").state == "succeeded"
    assert (tmp_path / "count").read_text() == "x"


def test_job_outlives_the_service_that_launched_it(launcher: SubprocessLauncher, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from shared.launchers import *\n"
        "SubprocessLauncher(Path(sys.argv[1])).launch(JobSpec.model_validate_json(sys.argv[2]))\n"
        "print('launched', flush=True)\n"
        "import time; time.sleep(300)\n"
    )
    job = spec("adopt", "child", str(tmp_path / "pids"), "sleep", "300")
    service = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "jobs"), job.model_dump_json()],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
    )
    with service:
        assert service.stdout is not None
        assert service.stdout.readline() == b"launched\n"
        os.killpg(service.pid, signal.SIGKILL)
    pids = pids_in(tmp_path / "pids")
    assert launcher.observe("adopt").state == "running"
    launcher.launch(job)
    launcher.cancel("adopt")
    assert outcome(launcher, "adopt") == JobStatus(state="failed", exit_code=143, message="the job was cancelled")
    assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize(("needed", "exit_code"), [("0.1", 0), ("300", 137)])
def test_a_cancelled_job_has_its_grace_and_no_more(tmp_path: Path, needed: str, exit_code: int) -> None:
    # What needs less has far more than it needs, and what needs more never has enough, however slow the machine is.
    launcher = SubprocessLauncher(tmp_path / "jobs", grace_seconds=60 if exit_code == 0 else 0.2)
    launcher.launch(spec("slow", "slow-term", needed, "child", str(tmp_path / "pids"), "sleep", "300"))
    pids = pids_in(tmp_path / "pids")
    launcher.cancel("slow")
    assert outcome(launcher, "slow") == JobStatus(state="failed", exit_code=exit_code, message="the job was cancelled")
    assert all(gone(pid) for pid in pids)


def test_killed_job_is_seen_as_failed(launcher: SubprocessLauncher, tmp_path: Path) -> None:
    launcher.launch(spec("killed", "say", "step 7", "child", str(tmp_path / "pids"), "sleep", "300"))
    pids = pids_in(tmp_path / "pids")
    os.kill(pids[0], signal.SIGKILL)
    status = outcome(launcher, "killed")
    assert (status.state, status.exit_code) == ("failed", 137)
    assert "short of memory?" in status.message
    assert "step 7" in status.message
    eventually(lambda: gone(pids[1]), what="end of the job's child")


def test_killed_keeper_takes_the_job_with_it(launcher: SubprocessLauncher, tmp_path: Path) -> None:
    launcher.launch(spec("lost", "child", str(tmp_path / "pids"), "sleep", "300"))
    pids = pids_in(tmp_path / "pids")
    keeper = JobFolder(tmp_path / "jobs/lost").keeper()
    assert keeper is not None
    os.kill(keeper.pid, signal.SIGKILL)
    status = outcome(launcher, "lost")
    assert (status.state, status.exit_code) == ("failed", None)
    assert "was killed, or the machine was restarted" in status.message
    eventually(lambda: all(gone(pid) for pid in pids), what="end of the job and its child")


def test_pid_of_somebody_else_is_not_mistaken_for_the_job(launcher: SubprocessLauncher, tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "jobs/old")
    folder.create(spec("old"))
    me = identify(os.getpid())
    assert me is not None
    other = me.model_copy(update={"started": me.started - 1})
    folder.claim(other)
    folder.write_job(other)
    assert launcher.observe("old").state == "failed"


def test_cancel_lets_the_job_end_by_itself(launcher: SubprocessLauncher, tmp_path: Path) -> None:
    launcher.launch(spec("polite", "term-file", str(tmp_path / "asked"), "child", str(tmp_path / "pids"), "sleep", "9"))
    pids_in(tmp_path / "pids")
    launcher.cancel("polite")
    launcher.cancel("polite")
    assert outcome(launcher, "polite").message == "the job was cancelled"
    assert (tmp_path / "asked").exists()
    launcher.cancel("polite")
    launcher.cancel("never-launched")
    assert launcher.observe("never-launched").state == "absent"


def test_cancel_right_after_launch(launcher: SubprocessLauncher) -> None:
    launcher.launch(spec("early", "sleep", "300"))
    launcher.cancel("early")
    assert outcome(launcher, "early").message == "the job was cancelled"


def test_timeout(launcher: SubprocessLauncher) -> None:
    launcher.launch(spec("slow", "say", "still at it", "sleep", "300", timeout_seconds=0.5))
    status = outcome(launcher, "slow")
    assert status.state == "failed"
    assert "longer than its limit of 0.5 s" in status.message


def test_settings_choose_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELOOP_LAUNCHER_DIR", str(tmp_path / "here"))
    launcher = launcher_from(LauncherSettings())
    launcher.launch(spec("s"))
    eventually(lambda: launcher.observe("s").state == "succeeded")
    assert (tmp_path / "here/s/exit.json").exists()
