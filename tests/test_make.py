"""Whoever types make gets the locked packages and nothing else, or one sentence."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
LOCK = tomllib.loads((HOUSE / "uv.lock").read_text())


def locked() -> dict[str, set[str]]:
    """Return every package of uv.lock as name==version, with its hashes."""
    return {
        f"{package['name']}=={package['version']}": {
            archive["hash"] for archive in [*package.get("wheels", []), package.get("sdist")] if archive
        }
        for package in LOCK["package"]
        if package["name"] != "receiptd"
    }


def required(name: str) -> dict[str, set[str]]:
    """Return every package of requirements/*name* as name==version, with its hashes."""
    text = (HOUSE / "requirements" / name).read_text()
    return {
        entry.group(1): set(re.findall(r"--hash=(\S+)", entry.group(0)))
        for entry in re.finditer(r"^(\S+==[^\s;]+).*(?:\n    --hash.*)*", text, re.MULTILINE)
    }


def make_venv(tmp_path: Path, path: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", HOUSE / "deploy" / "make-venv"],
        env={"PATH": path, "HOME": str(tmp_path), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_pip_gets_what_uv_gets() -> None:
    assert required("all.txt") == locked(), "run make lock"


@pytest.mark.parametrize("name", ["build.txt", "run.txt"])
def test_each_smaller_list_is_part_of_the_whole(name: str) -> None:
    part, whole = required(name), required("all.txt")
    assert part
    assert part == {package: whole[package] for package in part}, "run make lock"


def test_a_service_installs_no_tools_of_developers() -> None:
    names = {package.partition("==")[0] for package in required("run.txt")}
    assert {"aiosmtplib", "psycopg", "sqlmodel"} <= names
    assert not {"pytest", "ruff", "mypy", "hatchling", "aiosmtpd"} & names


def test_without_python_there_is_one_sentence(tmp_path: Path) -> None:
    told = make_venv(tmp_path, "/usr/bin:/bin", PYTHON="/nowhere/python3")
    assert told.returncode == os.EX_UNAVAILABLE
    assert told.stderr.count("\n") == 1
    assert "/nowhere/python3 is missing or older than Python 3.11" in told.stderr


def test_without_ensurepip_others_than_root_get_one_sentence(tmp_path: Path) -> None:
    for name, script in {"python3": 'case "$*" in *ensurepip*) exit 1;; esac', "id": "echo 1000"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    told = make_venv(tmp_path, str(tmp_path))
    assert told.returncode == os.EX_UNAVAILABLE
    assert told.stderr.count("\n") == 1
    assert "apt-get install python3-venv" in told.stderr


def test_ci_leaves_nothing_out() -> None:
    run = HOUSE / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert "RECEIPTD_REQUIRE_ALL=1\nexec make test" in run.read_text()


def recipe(*words: str) -> str:
    """Return what make would do; one that runs these tests hands its own words and directories on."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ARGS"))}
    return subprocess.run(
        ["make", "-n", *words], cwd=HOUSE, env=outside, capture_output=True, text=True, check=True
    ).stdout


def test_every_test_includes_a_hunt_that_goes_the_same_way_each_time() -> None:
    assert re.search(
        r"pytest -n 3 --dist loadfile \n.*-m tests\.fuzz --seed \w+ --executions \d+ --seconds 60$",
        recipe("test").strip(),
    )
    assert "tests.fuzz" not in recipe("test", "ARGS=tests/test_make.py"), "who asks for one test wants no minute more"


def test_what_needs_no_process_is_linted_and_tested_by_one_command() -> None:
    words = recipe("unit")
    assert all(tool in words for tool in ("ruff format --check", "ruff check", "bin/mypy", "lint-imports", "pytest"))
    assert "--unit" in words.splitlines()[-1]
    assert "tests.fuzz" not in words


def test_the_hooks_of_a_commit_are_the_linters_of_make() -> None:
    hooks = re.findall(r"entry: (\S+ ?\S*)", (HOUSE / ".pre-commit-config.yaml").read_text())
    linted = re.findall(r"^(\.venv/bin/\S+)", recipe("lint"), re.MULTILINE)
    assert {hook.split()[0] for hook in hooks} == set(linted)


def test_by_hand_a_hunt_goes_another_way_each_time() -> None:
    assert recipe("fuzz", "SECONDS=5").strip().endswith("-m tests.fuzz --seconds 5")


def test_compiled_modules_are_kept_whatever_the_environment_says() -> None:
    shown = subprocess.run(
        ["make", "-f", "Makefile", "-f", "-", "shown"],
        input="shown:\n\t@env",
        cwd=HOUSE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "VIRTUAL_ENV": "/elsewhere"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert not re.search(r"^(PYTHONDONTWRITEBYTECODE|VIRTUAL_ENV)=", shown, re.MULTILINE)
