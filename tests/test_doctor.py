"""Each thing that the doctor detects, on a machine made to have it."""

import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from course_lib import doctor, service
from course_lib.__main__ import main as command_line

ROOT = Path(__file__).resolve().parents[1]


def distribution(folder: Path, name: str, *requires: str, link: str = "") -> None:
    """Put an installed package's record into `folder`, as an installer would."""
    record = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    record.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
    (record / "METADATA").write_text("\n".join(lines + [f"Requires-Dist: {r}" for r in requires]))
    if link:
        (record / "direct_url.json").write_text(link)


def editable(root: Path) -> str:
    """What an installer records about an editable install from `root`."""
    return json.dumps({"url": root.as_uri(), "dir_info": {"editable": True}})


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder in front on the import path, for records of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def checkout(tmp_path):
    """A folder that looks like a checkout of the course."""
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout/pyproject.toml").touch()
    return tmp_path / "checkout"


def test_old_python_fails():
    """3.10 lacks what the course uses; 3.11 is enough."""
    assert doctor.python_version((3, 10)).status == "fail"
    assert doctor.python_version((3, 11)).status == "ok"


def test_package_not_installed_fails(checkout):
    """A package found only from the checkout's folder is missing in notebooks."""
    check = doctor.package(checkout, "no-such-package")
    assert (check.status, "not installed" in check.message) == ("fail", True)


def test_package_installed_as_a_copy_fails(checkout, site):
    """Edits of the checkout would not reach the notebooks."""
    distribution(site, "some-course")
    check = doctor.package(checkout, "some-course")
    assert (check.status, "copy" in check.message) == ("fail", True)


def test_package_installed_from_elsewhere_fails(checkout, site, tmp_path):
    """An editable install of another checkout is not this course."""
    distribution(site, "some-course", link=editable(tmp_path / "another"))
    check = doctor.package(checkout, "some-course")
    assert (check.status, "another" in check.message) == ("fail", True)


def test_package_installed_editable_is_ok(checkout, site):
    """An editable install of this very checkout is what set-up makes."""
    distribution(site, "some-course", link=editable(checkout))
    assert doctor.package(checkout, "some-course").status == "ok"


def test_package_without_checkout_warns(tmp_path, site):
    """The package serves without its repository, but the notebooks are not there."""
    distribution(site, "some-course")
    assert doctor.package(tmp_path, "some-course").status == "warn"


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("no-such-package>=1", "no-such-package missing"),
        ("pytest<1", "needs <1"),
        ("outer", "no-such-inner missing"),
    ],
)
def test_unmet_requirement_fails(site, requirement, message):
    """Missing, out of range, or lacking something of its own: each is named."""
    distribution(site, "outer", "no-such-inner", "no-such-extra; extra == 'x'", "outer")
    check = doctor.dependencies(["pytest", requirement])
    assert check.status == "fail"
    assert message in check.message
    assert "no-such-extra" not in check.message
    assert check.fix


def test_met_requirements_are_ok():
    """What the course requires is here, or its tests would not run."""
    assert doctor.dependencies().status == "ok"
    assert doctor.dependencies(["pytest", "no-such; sys_platform == 'other'"]).status == "ok"


def test_many_problems_are_shortened():
    """One screen: the first five are named, the rest counted."""
    check = doctor.dependencies([f"no-such-{n}" for n in range(8)])
    assert check.message.endswith("no-such-4 missing and 3 more")


def test_missing_packaging_is_a_finding(monkeypatch):
    """The doctor works in a bare Python, where what it compares with is itself missing."""
    monkeypatch.delitem(sys.modules, "course_lib.installed", raising=False)
    monkeypatch.delattr("course_lib.installed", raising=False)
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    (check,) = doctor.report({"dependencies": doctor.dependencies})
    assert (check.status, "packaging" in check.message) == ("fail", True)


def test_other_version_than_locked_warns(tmp_path):
    """A version that the course was not tested with is named beside the locked one."""
    lock = tmp_path / "requirements.lock"
    lock.write_text("pytest==0.1 \\\n    --hash=sha256:00\nno-such==2\n")
    check = doctor.locked_versions(lock)
    assert check.status == "warn"
    assert f"pytest {metadata.version('pytest')} (lock: 0.1)" in check.message
    assert "no-such missing" in check.message


def test_locked_versions_are_ok(tmp_path):
    """Entries for other platforms and Pythons do not count."""
    lock = tmp_path / "requirements.lock"
    other = "no-such==2 ; sys_platform == 'other' \\\n    --hash=sha256:00\npytest==0.1 ; "
    lock.write_text(f"{other}python_version < '3'\npytest=={metadata.version('pytest')} \\\n")
    check = doctor.locked_versions(lock)
    assert (check.status, check.message) == ("ok", "1 packages, all as locked")


def test_missing_lock_warns(tmp_path):
    """Installed without its repository, the package has nothing to compare with."""
    check = doctor.locked_versions(tmp_path / "requirements.lock")
    assert (check.status, "no requirements.lock" in check.message) == ("warn", True)


def test_unusable_loopback_fails():
    """An address that is not this machine's stands for a loopback that is shut."""
    assert doctor.loopback_port("192.0.2.1").status == "fail"
    assert doctor.loopback_port().status == "ok"


def test_unwritable_notebooks_fail(tmp_path):
    """What a learner writes could not be saved."""
    folder = tmp_path / "notebooks"
    assert doctor.notebooks_folder(folder).status == "warn"
    folder.touch()  # not a folder, so that root cannot write into it either
    assert doctor.notebooks_folder(folder).status == "fail"
    assert doctor.notebooks_folder(tmp_path).status == "ok"
    assert [path.name for path in tmp_path.iterdir()] == ["notebooks"]


@pytest.mark.parametrize(("limit", "status"), [(255, "fail"), (256, "warn"), (1024, "ok")])
def test_few_open_files(limit, status):
    """Too few to start fails, too few for a thousand connections warns."""
    check = doctor.open_files(limit)
    assert (check.status, str(limit) in check.message) == (status, True)


def test_open_files_of_this_process():
    """Without an argument, it reads the limit of this process."""
    assert doctor.open_files().name == "open files"


@pytest.mark.parametrize(
    ("command", "status"),
    [("/elsewhere/bin/python", "fail"), ("python3", "ok"), (sys.executable, "ok")],
)
def test_kernel_of_another_python_fails(tmp_path, monkeypatch, command, status):
    """A kernel left by another installation would run where the package is not."""
    folder = tmp_path / "kernels/course-test"
    folder.mkdir(parents=True)
    spec = {"argv": [command, "-m", "ipykernel_launcher"], "display_name": "test"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert doctor.kernel(name="course-test").status == status


def test_missing_kernel_fails():
    """Without a kernel no cell runs; the fix installs one."""
    check = doctor.kernel(name="no-such-kernel")
    assert (check.status, "ipykernel install" in check.fix) == ("fail", True)


def test_kernel_of_this_environment_is_ok():
    """`python3`, which the notebooks ask for, runs this Python."""
    assert doctor.kernel().status == "ok"


def test_other_model_fails(tmp_path):
    """A damaged, exchanged or missing file is reported, with what to do."""
    file = tmp_path / "model.onnx"
    for message in ("cannot read", "is not the model expected"):
        (check,) = doctor.report({"model": lambda: doctor.model_file(file)})
        assert (check.name, check.status) == ("model", "fail")
        assert message in check.message
        file.write_bytes(b"another model")


@pytest.mark.parametrize(
    ("environment", "status", "message"),
    [
        ({}, "ok", "nothing leaves this machine"),
        ({"LANGSMITH_TRACING": "true"}, "ok", "LANGSMITH_TRACING is set; the course runs without"),
        ({"COURSE_TRACING": "1"}, "ok", "nothing leaves this machine"),
        (
            {"LANGCHAIN_TRACING_V2": "true", "COURSE_TRACING": "1"},
            "warn",
            "tracing is on (LANGCHAIN_TRACING_V2): questions, passages and prompts leave",
        ),
    ],
)
def test_it_tells_whether_anything_leaves_the_machine(environment, status, message):
    """Tracing that the shell asks for is off, unless the learner lets it be."""
    check = doctor.privacy(environment)
    assert check.status == status
    assert message in check.message
    assert bool(check.fix) == (status == "warn")


def test_model_is_ok():
    """The installed model is the one that the course was made with."""
    assert doctor.model_file().status == "ok"


def test_service_is_tried_for_real():
    """A real service answers a real search."""
    check = doctor.trial_run()
    assert (check.status, check.name) == ("ok", "service")


@dataclass(frozen=True)
class Elsewhere:
    """A provider's handle that leads to an address of the test's choice."""

    url: str


def test_service_without_search_fails(monkeypatch):
    """An answer other than a list of results fails, and says what came."""
    with service.running() as provider:

        @contextmanager
        def running():
            yield Elsewhere(provider.url)

        provider.configure(faults=service.Faults(error=1.0))
        monkeypatch.setattr(service, "running", running)
        check = doctor.trial_run()
    assert (check.status, "answered 500" in check.message) == ("fail", True)


def test_service_that_does_not_answer_fails(monkeypatch):
    """A refused connection is a finding, not a traceback."""

    @contextmanager
    def running():
        with socket.socket() as silent:  # bound, so nobody else's, but not listening
            silent.bind(("127.0.0.1", 0))
            yield Elsewhere(f"http://127.0.0.1:{silent.getsockname()[1]}")

    monkeypatch.setattr(service, "running", running)
    (check,) = doctor.report({"service": doctor.trial_run})
    assert (check.status, "ConnectionRefusedError" in check.message) == ("fail", True)


def fine() -> doctor.Check:
    """A check that finds nothing."""
    return doctor.Check("fine", "ok", "as it should be")


def odd() -> doctor.Check:
    """A check that finds something to know."""
    return doctor.Check("odd", "warn", "not as tested", "Nothing to do.")


def crash() -> doctor.Check:
    """A check that breaks."""
    raise RuntimeError("it broke")


def test_a_check_that_crashes_has_failed():
    """One broken check is reported by name, and the others still run."""
    found = doctor.report({"broken": crash, "fine": fine})
    assert [(check.name, check.status) for check in found] == [("broken", "fail"), ("fine", "ok")]
    assert "RuntimeError: it broke" in found[0].message


def test_report_for_people(capsys):
    """A line a check, what to do below it, and a verdict; warnings do not fail."""
    assert doctor.main(checks={"fine": fine, "odd": odd}) == 0
    out = capsys.readouterr().out
    assert "warn  odd            not as tested\n" in out
    assert "-> Nothing to do." in out
    assert out.endswith("This machine is ready.\n")
    assert doctor.main(checks={"broken": crash}) == 1
    assert capsys.readouterr().out.endswith("Not ready: 1 failed.\n")


def test_report_as_json(capsys):
    """One object, with the verdict and each check."""
    assert doctor.main(as_json=True, checks={"odd": odd}) == 0
    check = {"name": "odd", "status": "warn", "message": "not as tested", "fix": "Nothing to do."}
    assert json.loads(capsys.readouterr().out) == {"ok": True, "checks": [check]}
    assert doctor.main(as_json=True, checks={"broken": crash, "fine": fine}) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_command_line_runs_every_check():
    """`python -m course_lib doctor --json` prints all checks; its status agrees with them."""
    command = [sys.executable, "-m", "course_lib", "doctor", "--json"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(result.stdout)
    assert [check["name"] for check in report["checks"]] == list(doctor.CHECKS)
    failed = [check for check in report["checks"] if check["status"] == "fail"]
    assert (result.returncode, report["ok"]) == ((1, False) if failed else (0, True))
    assert result.stderr == ""


def test_command_line_refuses_what_it_does_not_know(capsys):
    """An unknown command says which there are."""
    with pytest.raises(SystemExit):
        command_line(["cure"])
    assert "doctor" in capsys.readouterr().err
