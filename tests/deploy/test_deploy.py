"""What is shipped for operation is what the program understands."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from typer.main import get_command

from tumble.daemon import progress
from tumble.daemon.cli import app
from tumble.daemon.config import Settings, load, options_from
from tumble.daemon.monitoring import metrics
from tumble.daemon.snapshot import SCHEMA_VERSION, ParticleView, Snapshot, StreamHealth
from tumble.recon.frontend.options import FrontEndOptions

COMMENTED = re.compile(r"^# (?=\w+ = )", re.MULTILINE)


@pytest.fixture(scope="module")
def deploy(root: Path) -> Path:
    return root / "deploy"


def test_the_example_is_a_configuration_with_every_default(deploy):
    shipped = load(deploy / "tumble.toml").model_dump()
    defaults = Settings().model_dump()
    defaults["stream"]["source"] = "zmq+tcp://detector:31001"
    defaults["session"]["record"] = True  # as `tumble run` has it
    defaults["stream"]["series"] = 0
    assert shipped == defaults


def test_every_option_is_in_the_example_and_each_one_is_right(deploy, tmp_path):
    text = (deploy / "tumble.toml").read_text()
    everything = tomllib.loads(COMMENTED.sub("", text))
    for section, field in Settings.model_fields.items():
        model = field.annotation
        known = {item.name for item in fields(FrontEndOptions)} if section == "frontend" else set(model.model_fields)
        assert set(everything[section]) == known, section
    path = tmp_path / "all.toml"
    path.write_text(COMMENTED.sub("", text))
    options_from(FrontEndOptions, load(path).frontend, "frontend")


def test_commented_numbers_of_the_front_end_are_its_defaults(deploy):
    everything = tomllib.loads(COMMENTED.sub("", (deploy / "tumble.toml").read_text()))
    for item in fields(FrontEndOptions):
        if item.default is not None:
            assert everything["frontend"][item.name] == item.default, item.name


def test_every_option_is_explained(deploy):
    for line in (deploy / "tumble.toml").read_text().splitlines():
        if re.match(r"(# )?\w+ = ", line):
            assert re.search(r"\S +# \S", line), line


def test_every_metric_of_the_panel_exists(deploy):
    stream = StreamHealth(
        rejected={"a": 1}, dropped={"a": 1}, latency_p50_ms=1.0, latency_p99_ms=1.0, pose_latency_p50_ms=1.0
    )
    particle = ParticleView("P001", "MAPPING", (0.0, 0.0), 1.0, lattice_constant_A=3.9, resolution_A=1.0, atoms=1)
    snapshot = Snapshot(SCHEMA_VERSION, "0", 1, 0.0, 0.0, "RUNNING", "", stream, (particle,), {"front end": 1.0})
    told = {sample.name for family in metrics(snapshot, 0.0) for sample in family.samples}
    panels = json.loads((deploy / "grafana.json").read_text())["panels"]
    asked = {
        name for panel in panels for target in panel["targets"] for name in re.findall(r"tumble_\w+", target["expr"])
    }
    assert len(asked) > 15
    assert asked <= told, asked - told
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_unit_fits_the_program(deploy, root):
    unit = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",))
    unit.optionxform = str
    unit.read(deploy / "tumble.service")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert 0 < int(service["WatchdogSec"]) <= progress.STALLED_S
    assert "tumble run --config /etc/tumble/tumble.toml --headless" in service["ExecStart"]
    assert "tumble config check /etc/tumble/tumble.toml" in service["ExecStartPre"]
    # ZeroMQ lists the network interfaces before it binds, and aborts where it may not ask the kernel for them.
    assert set(service["RestrictAddressFamilies"].split()) == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}


def test_systemd_finds_nothing_wrong_with_the_unit(deploy):
    """But that the program is not installed where the unit has it."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    words = [tool, "verify", "--man=no", str(deploy / "tumble.service")]
    told = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    unknown = [
        line for line in told.stderr.splitlines() if "Command /opt/tumble/bin/tumble is not executable" not in line
    ]
    assert [line for line in unknown if "tumble.service" in line] == []


def test_the_compose_file_is_one_service_without_privileges(deploy):
    yaml = pytest.importorskip("yaml")
    compose = yaml.safe_load((deploy / "compose.yaml").read_text())
    (service,) = compose["services"].values()
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert (deploy / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    compile(service["healthcheck"]["test"][-1], "healthcheck", "exec")


def test_containers_install_what_is_pinned(deploy):
    for name, wanted in (("Containerfile.cpu", "/src"), ("Containerfile.cuda", '"/src[gpu]"')):
        text = (deploy / name).read_text()
        assert f"--constraint /src/constraints.txt {wanted}\n" in text
        assert "USER tumble" in text
        words = {line.split()[0] for line in re.sub(r"\\\n", "", text).splitlines() if line and line[0] not in "# "}
        assert words <= {"FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "VOLUME", "ENTRYPOINT", "CMD"}


def shipped_commands(deploy: Path) -> list[str]:
    """Command lines of `tumble` in the page, the unit and the compose file, without the program."""
    page = (deploy / "README.md").read_text()
    found = re.findall(r"`tumble ([^`]+)`", page) + re.findall(r"bin/tumble ([^#\n`]+)", page)
    found += re.findall(r"^Exec\w+=/opt/tumble/bin/tumble (.+)$", (deploy / "tumble.service").read_text(), re.MULTILINE)
    found.append(" ".join(json.loads(re.search(r"command: (\[.+\])", (deploy / "compose.yaml").read_text())[1])))
    return [words for words in found if "..." not in words]


def test_every_command_that_is_shipped_is_understood(deploy):
    """Parsed as the program does it, and not run."""
    lines = shipped_commands(deploy)
    assert {"run", "watch", "control", "keys", "config", "doctor"} <= {line.split()[0] for line in lines}
    for line in lines:
        command, words = get_command(app), line.split()
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context(line, words)


def test_ports_and_memory_of_the_compose_file_are_those_of_the_configuration(deploy):
    compose, example = (deploy / "compose.yaml").read_text(), (deploy / "tumble.toml").read_text()
    (port,) = set(re.findall(r"127\.0\.0\.1:(\d+)/", compose))
    assert f"# port = {port} " in example
    assert f"monitoring.port = {port}`" in (deploy / "README.md").read_text()
    (gigabytes,) = re.findall(r"shm_size: (\d+)gb", compose)
    assert int(gigabytes) * 1024 > 2 * Settings().stream.ring_MiB
    assert "dockerfile: deploy/Containerfile.cpu" in compose
    assert "/etc/tumble.toml" in compose.split("volumes:")[1]


def test_the_page_names_files_that_exist(deploy, root):
    text = (deploy / "README.md").read_text()
    named = set(re.findall(r"deploy/[\w.]+\w", text)) | {
        f"deploy/{link}" for link in re.findall(r"\]\((\w[\w.]+)\)", text)
    }
    named -= {"deploy/data"}  # made by whoever uses the compose file
    assert len(named) >= 5
    assert [name for name in named if not (root / name).exists()] == []
