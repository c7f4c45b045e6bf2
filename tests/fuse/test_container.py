"""docs/Dockerfile and what docs/clusters.md says that `docker run` must be given, without Docker.

A container is namespaces and fewer privileges; both can be had here, with the privileges
that Docker leaves to root by default.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.mounting import DEADLINE_S, REPOSITORY, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.replica import ServedReplica

# From Docker's manual, "Runtime privilege and Linux capabilities".
DOCKERS_OWN = [
    "audit_write",
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "mknod",
    "net_bind_service",
    "net_raw",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
]

in_containers = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may make namespaces as Docker does"
)


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each with its arguments in one line."""
    text = (REPOSITORY / "docs" / "Dockerfile").read_text()
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line]


def only(instruction: str) -> str:
    """Return the arguments of the only instruction of a kind."""
    (found,) = (text for kind, text in instructions() if kind == instruction)
    return found


def arguments_of_run() -> list[str]:
    """Return the first `docker run` of the documentation, as a list of its words."""
    text = (REPOSITORY / "docs" / "clusters.md").read_text().replace("\\\n", " ")
    found = re.search(r"^docker run .*$", text, re.MULTILINE)
    assert found is not None
    return shlex.split(found[0])


def test_it_installs_what_the_readme_says() -> None:
    commands = " ".join(text for kind, text in instructions() if kind == "RUN")
    readme = (REPOSITORY / "README.md").read_text()
    packages = re.search(r"^sudo apt install (.*)$", readme, re.MULTILINE)
    assert packages is not None
    assert set(packages[1].split()) <= set(commands.split())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    (extra,) = re.findall(r"pip install [^&]*\[(\w+)\]", commands)
    assert extra in project["project"]["optional-dependencies"]
    linked = re.findall(r"ln -s /opt/idcfs/bin/(\S+)", commands)
    assert set(linked) == set(project["project"]["scripts"])


def test_it_takes_along_what_the_package_is_built_of() -> None:
    copied = " ".join(text for kind, text in instructions() if kind == "COPY").split()
    assert all((REPOSITORY / name).exists() for name in copied if not name.startswith(("/", "-")))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], *project["project"]["license-files"]}
    assert needed | {project["project"]["readme"], "pyproject.toml"} <= set(copied)


@contextmanager
def container(
    *command: str, capabilities: list[str], devices: list[str], tmp_path: Path
) -> Iterator[subprocess.Popen[str]]:
    """Run a command as the first process of namespaces of its own, with these privileges."""
    allowed = ",".join(["-all", *(f"+{each}" for each in capabilities)])
    outside = tmp_path / "devices"
    script = [
        f"mkdir {outside} && mount --bind /dev {outside}",
        "mount -t tmpfs tmpfs /dev && mount -t tmpfs tmpfs /mnt && mkdir /mnt/idc",
        *(
            f"touch {name} && mount --bind {outside}{name.removeprefix('/dev')} {name}"
            for name in ["/dev/null", "/dev/urandom", *devices]
        ),
        f"exec setpriv --bounding-set={allowed} --inh-caps={allowed} {shlex.join(command)}",
    ]
    flags = ["--mount", "--propagation=private", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with subprocess.Popen(
        ["unshare", *flags, "sh", "-ec", "\n".join(script)],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@in_containers
def test_doctor_says_what_a_container_was_not_given(replica: ServedReplica, tmp_path: Path) -> None:
    command = ("idcfs", "doctor", "--json", f"--endpoint-url={replica.endpoint_url}")
    with container(*command, capabilities=DOCKERS_OWN, devices=[], tmp_path=tmp_path) as process:
        told, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    wrong = {each["subject"]: each["remedy"] for each in json.loads(told) if not each["ok"]}
    for subject in ("FUSE device", "privileges"):
        assert "--device /dev/fuse --cap-add SYS_ADMIN" in wrong[subject]


@in_containers
def test_what_the_documentation_says_is_enough(
    replica: ServedReplica, layouts: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "idcfs").mkdir(parents=True)
    (tmp_path / "cache" / "idcfs" / "layouts").symlink_to(layouts / "layouts")
    words = arguments_of_run()
    given = {name: words[words.index(name) + 1] for name in ("--device", "--cap-add")}
    command = json.loads(only("ENTRYPOINT")) + json.loads(only("CMD"))
    health = json.loads(only("HEALTHCHECK").partition("CMD ")[2])
    with container(
        *command,
        f"--endpoint-url={replica.endpoint_url}",
        "--collection-id=cmmd",
        capabilities=[*DOCKERS_OWN, given["--cap-add"].lower()],
        devices=[given["--device"]],
        tmp_path=tmp_path,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("mounted IDC v25 at /mnt/idc: ")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        (first,) = children.read_text().split()
        inside = ["nsenter", f"--target={first}", "--mount", "--pid"]
        listed = subprocess.run([*inside, "ls", "/mnt/idc"], capture_output=True, check=True)
        assert listed.stdout == b"cmmd\n"
        program = str(Path(sys.executable).with_name(health[0]))
        subprocess.run([*inside, program, *health[1:]], check=True, timeout=DEADLINE_S)
        os.kill(int(first), getattr(signal, only("STOPSIGNAL")))
        assert process.wait(DEADLINE_S) == 0
        assert process.stdout.read() == ""
    wait_until(lambda: not Path(f"/proc/{first}").exists(), "it is gone")
