"""The unit is locked in, tells systemd the truth, and names the secrets that the settings name."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.servers.packages import Unobtainable, unpack

HOUSE = Path(__file__).parent.parent
UNIT = HOUSE / "deploy" / "receiptd.service"


@functools.cache
def analyzer() -> tuple[str, dict[str, str]]:
    """Return systemd-analyze and its environment: the machine's own, else Debian's package unpacked."""
    if own := shutil.which("systemd-analyze"):
        return own, dict(os.environ)
    try:
        unpacked = unpack("systemd")
    except Unobtainable as missing:
        pytest.skip(f"systemd-analyze is neither here nor to be had ({missing})")
    libraries = dict.fromkeys(str(path.parent) for path in unpacked.rglob("lib*.so*"))
    places = {"LD_LIBRARY_PATH": ":".join(libraries), "SYSTEMD_UNIT_PATH": str(unpacked / "usr/lib/systemd/system")}
    return str(unpacked / "usr/bin/systemd-analyze"), {**os.environ, **places}


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program, environment = analyzer()
    return subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)


def unit() -> dict[str, list[str]]:
    """Return the settings of [Service], each with all its values."""
    settings: dict[str, list[str]] = {}
    for line in UNIT.read_text().partition("[Service]")[2].partition("[Install]")[0].splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings.setdefault(key, []).append(value)
    return settings


def test_the_unit_is_locked_in_at_1_4_or_better() -> None:
    shown = analyze("security", "--offline=true", "--no-pager", str(UNIT)).stdout
    exposure = re.search(r"Overall exposure level for receiptd.service: ([\d.]+)", shown)
    assert exposure is not None, shown
    assert float(exposure[1]) <= 1.4


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / "receiptd.service"
    copy.write_text(UNIT.read_text().replace("/opt/receiptd/bin/receiptd", "/bin/true"))
    judged = analyze("verify", "--man=no", str(copy))
    assert (judged.returncode, judged.stderr) == (0, "")


def test_bad_settings_are_not_tried_again_and_a_hanging_loop_is() -> None:
    service = unit()
    assert service["Type"] == ["notify"]
    assert service["Restart"] == ["always"]
    assert service["RestartPreventExitStatus"] == [str(os.EX_CONFIG)]
    assert service["WatchdogSec"] == ["60s"]


def test_send_sock_can_tell_its_users_apart() -> None:
    assert unit()["PrivateUsers"] == ["no"]


def test_every_secret_of_the_commented_settings_is_loaded_as_a_credential() -> None:
    credentials = {value.partition(":")[0] for value in unit()["LoadCredential"]}
    assert credentials == set(secrets(tomllib.loads((HOUSE / "config" / "receiptd.toml").read_text())))


def test_a_reload_is_the_signal_at_which_the_daemon_reads_its_settings() -> None:
    """tests/faults/test_reload.py sends it to a daemon."""
    assert unit()["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_the_group_of_api_sock_is_made_by_sysusers() -> None:
    made = (HOUSE / "deploy" / "sysusers.d" / "receiptd.conf").read_text()
    assert f"\ng {unit()['Group'][0]} " in made


def test_what_the_unit_loads_and_runs_stands_in_the_install_steps() -> None:
    steps = (HOUSE / "docs" / "deploy.md").read_text()
    for value in [*unit()["LoadCredential"], unit()["ExecStart"][0].partition(" ")[0]]:
        assert (value.partition(":")[2] or value.rpartition("/")[0]) in steps


def test_what_the_unit_says_of_its_pages_is_installed() -> None:
    steps = (HOUSE / "docs" / "deploy.md").read_text()
    page = re.search(r"^Documentation=.* file:(\S+)/deploy.md$", UNIT.read_text(), re.MULTILINE)
    assert page is not None
    assert f"install -D -m 644 -t {page[1]} docs/*.md" in steps


def test_installing_twice_and_upgrading_keep_the_settings_whatever_the_umask(tmp_path: Path) -> None:
    install, upgrade = steps_below("Running receiptd as a service"), steps_below("Upgrade")
    perform(install, tmp_path)
    settings = tmp_path / "etc" / "receiptd" / "receiptd.toml"
    assert settings.read_bytes() == (HOUSE / "config" / "receiptd.toml").read_bytes()
    settings.write_text("edited")
    (tmp_path / "etc" / "systemd" / "system" / "receiptd.service").write_text("an older unit")
    perform(install, tmp_path)
    (tmp_path / "var" / "lib" / "receiptd").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    perform(upgrade, tmp_path)
    assert settings.read_text() == "edited"
    assert (tmp_path / "etc" / "systemd" / "system" / "receiptd.service").read_bytes() == UNIT.read_bytes()
    for path in (tmp_path / "opt").rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path


def test_a_changed_unit_is_read_anew_before_the_service_starts() -> None:
    calls = re.findall(r"systemctl (\S+)", steps_below("Upgrade"))
    assert calls == ["stop", "daemon-reload", "start"]


def steps_below(heading: str) -> str:
    """Return the commands that docs/deploy.md gives below *heading*, up to the next one."""
    page = (HOUSE / "docs" / "deploy.md").read_text()
    text = re.split(r"^#+ ", page.split(f"# {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    return "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))


def perform(steps: str, root: Path) -> None:
    """Run *steps* with *root* for /, a strict umask, and programs that do nothing for those that reach outside."""
    programs = root / "programs"
    programs.mkdir(exist_ok=True)
    venv = 'mkdir -p $3/bin; echo "#!/bin/sh" > $3/bin/pip; chmod +x $3/bin/pip'
    for name, does in {"systemctl": "", "systemd-sysusers": "", "editor": "", "python3": venv}.items():
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    (root / "usr" / "local" / "bin").mkdir(parents=True, exist_ok=True)
    here = re.sub(r"(?<![\w.])/(?=(opt|etc|usr|var|root)/)", f"{root}/", steps)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-euc", f"umask 077\n{here}"], cwd=HOUSE, env=environment, check=True)


def secrets(value: Any, key: str = "") -> list[str]:
    """Return what every `…_file` in *value* names."""
    if isinstance(value, dict):
        return [name for key, inner in value.items() for name in secrets(inner, key)]
    if isinstance(value, list):
        return [name for inner in value for name in secrets(inner)]
    return [value] if key.endswith("_file") else []


def test_the_note_of_the_last_attempt_lies_where_no_backup_of_the_database_takes_it() -> None:
    service = unit()
    assert service["CacheDirectory"] == ["receiptd"]
    assert "BOOT_ID=%b" in service["Environment"], "under ProcSubset=pid it can't look for itself"
    assert service["ProcSubset"] == ["pid"]
