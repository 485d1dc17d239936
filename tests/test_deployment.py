"""The compose file and the Dockerfile, held to the rules of FAULTS S9 to S12 and P9."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from batch.main import COMMANDS
from jobs.chunk import Terms

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("worker", "coordinator", "flower", "api")
GUIDE = (ROOT / "docs" / "deployment.md").read_text()

DIGEST = re.compile(r"@sha256:[0-9a-f]{64}")
VERSION = re.compile(r":\d+\.\d+\.\d+(-[a-z0-9.-]+)?$")
SECRET = re.compile(r"KEY|TOKEN|PASSWORD|SECRET", re.IGNORECASE)

every_service = pytest.mark.parametrize("name", SERVICES, ids=lambda name: f"S11-{name}")


def resolved(text: str, **given: str) -> str:
    """The text as Compose reads it with only `given` set; a required variable is 'required'."""

    def value(match: re.Match[str]) -> str:
        name, rule, rest = match.group(1), match.group(2) or "", match.group(3) or ""
        return given.get(name) or ("required" if rule == ":?" else rest)

    return re.sub(r"(?<!\$)\$\{(\w+)(:[-?])?([^}]*)\}", value, text).replace("$$", "$")


def seconds(text: str) -> int:
    """A duration of Compose, of one unit."""
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what each says, in order."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line.strip()]


def said(instruction: str) -> list[str]:
    return [rest for name, rest in instructions() if name == instruction]


def valkey_options() -> dict[str, str]:
    """What the command feeds to the server's standard input, but for the users."""
    return dict(told for told in valkey_lines() if told[0] != "user")


def valkey_users() -> dict[str, str]:
    """The rights of each user, without the password."""
    users = [line.split(" ", 2) for word, line in valkey_lines() if word == "user"]
    return {name: " ".join(rest) for name, *rest in users}


def valkey_lines() -> list[tuple[str, str]]:
    text = resolved(SERVICES["redis"]["command"][-1])
    body = text.partition("<<END\n")[2].partition("END")[0]
    return [(line.split()[0], line.partition(" ")[2]) for line in body.splitlines()]


def health_check(service: str) -> list[str]:
    return [str(part) for part in SERVICES[service]["healthcheck"]["test"]]


# ---- every container ----------------------------------------------------------------------------


def test_metrics_are_for_the_inner_networks_alone() -> None:
    assert SERVICES["coordinator"]["expose"] == ["9464"]
    assert "ports" not in SERVICES["coordinator"]


def test_the_services_are_those_that_the_guide_describes() -> None:
    assert set(SERVICES) == {"redis", *OURS}


@every_service
def test_it_has_no_rights_to_spare(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "devices", "pid", "ipc", "network_mode", "userns_mode"} & set(service)


@every_service
def test_it_does_not_run_as_root(name: str) -> None:
    user, group = resolved(SERVICES[name]["user"]).split(":")

    assert int(user) > 0
    assert int(group) > 0


@every_service
def test_what_it_may_write_beside_its_volumes_is_a_small_tmp_in_memory(name: str) -> None:
    (tmp,) = SERVICES[name]["tmpfs"]

    path, _, options = tmp.partition(":")
    assert path == "/tmp"
    assert {"noexec", "nosuid", "nodev", "size=64m"} <= set(options.split(","))


@every_service
def test_its_image_is_pinned_by_version_and_has_a_place_for_the_digest(name: str) -> None:
    pinned = "@sha256:" + "0" * 64
    images = said("FROM") if name in OURS else [SERVICES[name]["image"]]

    for image in images:
        bare = re.sub(r"\$\{\w*_DIGEST(:-)?\}", "", image.partition(" AS ")[0])
        assert VERSION.search(bare), image
        whole = re.sub(r"\$\{\w*_DIGEST(:-)?\}", pinned, image)
        assert DIGEST.search(whole), image


@every_service
def test_it_comes_back_by_itself_and_its_log_is_bounded(name: str) -> None:
    service = SERVICES[name]

    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert service["pids_limit"] <= 512


@every_service
def test_its_health_is_checked(name: str) -> None:
    check = SERVICES[name]["healthcheck"]

    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert seconds(check["timeout"]) < seconds(check["interval"])
    assert check["retries"] >= 3


@pytest.mark.parametrize("name", OURS)
def test_its_health_check_is_python_that_imports_what_exists(name: str) -> None:
    script = ast.parse(health_check(name)[-1])

    for node in ast.walk(script):
        if isinstance(node, ast.ImportFrom):
            module = __import__(node.module or "", fromlist=["*"])
            assert all(hasattr(module, alias.name) for alias in node.names)


# ---- Redis --------------------------------------------------------------------------------------


def test_s10_redis_asks_for_a_password_that_must_be_set() -> None:
    users = valkey_users()
    assert users.pop("default") == "off"
    assert set(users) == {"coordinator", "worker", "flower"}
    for name, rules in users.items():
        assert rules.startswith(f"on >${name.upper()}_PASSWORD ~")
        assert "-@admin -@dangerous" in rules
        assert ":?" in SERVICES["redis"]["environment"][f"{name.upper()}_PASSWORD"]
        assert f"redis://{name}:${{" in SERVICES[name]["environment"]["NIGHTSHIFT_REDIS_URL"]
        assert ":?" in SERVICES[name]["environment"]["NIGHTSHIFT_REDIS_URL"]


def test_s10_the_password_of_redis_is_on_no_command_line() -> None:
    assert "REDIS_PASSWORD" not in str(SERVICES["redis"]["command"])
    assert "valkey-server - <<" in SERVICES["redis"]["command"][-1]
    assert "-a" not in shlex.split(health_check("redis")[-1])


def test_s10_redis_keeps_what_it_has_and_drops_nothing_in_silence() -> None:
    options = valkey_options()

    assert options["appendonly"] == "yes"
    assert options["maxmemory-policy"] == "noeviction"
    assert f"redis:{options['dir']}" in SERVICES["redis"]["volumes"]


def test_s10_redis_is_on_a_network_of_its_own_without_a_port() -> None:
    redis = SERVICES["redis"]

    assert redis["networks"] == ["redis"]
    assert COMPOSE["networks"]["redis"] == {"internal": True}
    assert not {"ports", "expose"} & set(redis)


def test_s10_only_flower_is_published_and_only_to_this_host() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert list(published) == ["flower"]
    assert all(port.startswith("127.0.0.1:") for port in published["flower"])


# ---- the worker, the coordinator, Flower ---------------------------------------------------------


def test_p9_a_worker_is_given_longer_to_stop_than_a_call_may_take() -> None:
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > Terms().total_timeout_s + 30


def test_a_worker_can_be_scaled() -> None:
    assert not {"container_name", "hostname", "ports"} & set(SERVICES["worker"])


def test_s2_the_key_reaches_workers_only_and_as_a_file_only() -> None:
    held = {name: set(service.get("secrets", ())) for name, service in SERVICES.items()}
    assert [name for name, some in held.items() if "api_key" in some] == ["worker"]
    assert [name for name, some in held.items() if "post_secret" not in some] == ["redis"]
    assert SERVICES["worker"]["environment"]["NIGHTSHIFT_API_KEY_FILE"] == "/run/secrets/api_key"
    assert "file" in COMPOSE["secrets"]["api_key"]
    assert "ROUTERAI_API_KEY" not in str(SERVICES)


def test_the_image_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert {SERVICES[name]["image"] for name in OURS} == {f"nightshift:{project['version']}"}


def test_s2_no_secret_is_written_into_the_compose_file() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable) and not variable.endswith("_FILE"):
                assert value.startswith("${"), f"{name}: {variable}"


def test_s9_flower_must_be_given_a_password() -> None:
    assert ":?" in SERVICES["flower"]["environment"]["NIGHTSHIFT_FLOWER_PASSWORD"]
    assert "password" not in str(SERVICES["flower"]["command"]).lower()


def test_what_is_durable_is_on_named_volumes() -> None:
    named = [
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if isinstance(volume, str)
    ]

    assert sorted({*named}) == sorted(COMPOSE["volumes"]) == ["home", "redis", "scratch"]


def test_each_of_ours_waits_for_redis() -> None:
    for name in OURS:
        assert SERVICES[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_ours_are_built_here_and_never_fetched() -> None:
    for name in OURS:
        assert SERVICES[name]["pull_policy"] == "build"
        assert SERVICES[name]["build"]["context"] == "."


# ---- the Dockerfile ------------------------------------------------------------------------------


def test_s11_the_image_is_built_in_two_stages_of_one_base() -> None:
    first, second = said("FROM")

    assert first == f"{second} AS build"
    assert "slim" in second


def test_s11_the_image_ends_as_a_user_that_is_not_root() -> None:
    names = [name for name, _ in instructions()]

    assert said("USER") == ["${NIGHTSHIFT_UID}:${NIGHTSHIFT_UID}"]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in {"RUN", "COPY"})
    assert "NIGHTSHIFT_UID=1000" in said("ARG")


def test_s12_only_what_the_lock_names_by_hash_is_installed_and_nothing_is_compiled() -> None:
    lock, project = [run for run in said("RUN") if "pip install" in run]

    assert shlex.split(lock)[2:] == [
        "--require-hashes",
        "--only-binary",
        ":all:",
        "-r",
        "requirements.lock",
    ]
    assert shlex.split(project)[2:] == ["--no-deps", "--no-build-isolation", "--no-index", "."]


def test_s12_nothing_else_is_fetched() -> None:
    assert not said("ADD")
    assert not [run for run in said("RUN") if re.search(r"\b(curl|wget|apt-get|git)\b", run)]


def test_s12_every_package_of_the_lock_has_a_version_and_hashes() -> None:
    text = re.sub(r"\\\n\s*", " ", (ROOT / "requirements.lock").read_text())
    packages = [
        line
        for line in text.splitlines()
        if line.strip() and not line.startswith("#") and not line.startswith(" ")
    ]

    assert packages
    for line in packages:
        assert re.match(r"[\w.\[\]-]+==\S+ ", line), line
        assert "--hash=sha256:" in line, line


def test_s2_no_secret_can_enter_a_layer() -> None:
    for _, rest in [pair for pair in instructions() if pair[0] in {"ARG", "ENV"}]:
        assert not SECRET.search(rest)
    assert not [copy for copy in said("COPY") if copy.split()[0] in {".", "./"}]


def test_s2_the_build_sees_only_what_it_needs() -> None:
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        word.removeprefix("./")
        for copy in said("COPY")
        if "--from" not in copy
        for word in copy.split()[:-1]
    }

    assert lines[0] == "*"
    assert allowed == copied
    assert "**/.env" in lines[-3:]


# ---- what is written about it --------------------------------------------------------------------


def commands_in(text: str) -> set[str]:
    """The commands of `nightshift` that a text has readers type."""
    return set(re.findall(r"(?<![/\w-])nightshift ([a-z]+)\b", text))


def test_the_commands_of_the_services_exist() -> None:
    for name in OURS:
        program, command, *_ = SERVICES[name]["command"]
        assert program == "nightshift"
        assert command in COMMANDS


def test_the_commands_in_the_guide_exist() -> None:
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`|ExecStart=.*", GUIDE, re.DOTALL))

    assert commands_in(code) >= {"worker", "coordinator", "flower", "doctor", "submit"}
    assert commands_in(code) <= set(COMMANDS)


def test_every_variable_of_the_compose_file_is_in_the_guide() -> None:
    variables = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))

    assert variables <= set(re.findall(r"NIGHTSHIFT_\w+", GUIDE))
