"""Provenance: what is recorded about the program and the machine, and what must not be."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rarelab.tracking import environment, provenance, write_environment
from rarelab.tracking.naming import MAX_NAME, Names, clean_name, clean_values
from rarelab.tracking.redact import (
    redact_command,
    redact_diff,
    redact_setting,
    redact_text,
    redact_uri,
)


@pytest.fixture(autouse=True)
def fresh():
    names = ("_state", "_root", "_diff", "_without_commands")
    for name in names:
        getattr(environment, name).cache_clear()
    yield
    for name in names:
        getattr(environment, name).cache_clear()


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Make the working directory a Git work tree with one commit; the package itself is in none."""
    folder = tmp_path / "mine"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "loss.py").write_text("x = 1\n")
    (folder / "settings.py").write_text("key = 1\n")
    git(folder, "add", "loss.py", "settings.py")
    git(folder, "commit", "-q", "-m", "one")
    monkeypatch.chdir(folder)
    package = tmp_path / "site-packages" / "rarelab"
    package.mkdir(parents=True)
    monkeypatch.setattr(environment, "_PACKAGE", package)
    return folder


def test_the_recorded_facts_describe_this_process():
    facts = provenance()
    packages = ("torch", "numpy", "scikit-learn", "mlflow", "hydra-core")
    assert all(facts["packages"][name] for name in packages)
    assert facts["rarelab"] and facts["python"].startswith("3.") and facts["threads"] >= 1
    assert facts["platform"] and facts["cpu_capability"]
    assert facts["command"] == shlex.join(sys.argv)


def test_a_clean_checkout_has_a_commit_and_no_diff(checkout):
    facts = write_environment(checkout.parent)
    [state] = facts["checkouts"]
    assert state["commit"] == git(checkout, "rev-parse", "HEAD") and state["dirty"] is False
    assert not (checkout.parent / "diff.patch").exists()
    assert json.loads((checkout.parent / "environment.json").read_text()) == facts
    assert environment.run_tags()["rarelab.dirty"] == "false"


def test_a_dirty_checkout_can_be_restored_from_commit_and_diff(checkout, tmp_path):
    (checkout / "loss.py").write_text("x = 2\n")
    (checkout / "new.py").write_text("y = 1\n")
    (checkout / "settings.py").write_text("key = 2\n")
    [state] = write_environment(tmp_path, [checkout / "loss.py"])["checkouts"]
    assert state["dirty"] is True and state["untracked"] == []
    assert "settings" not in (tmp_path / "diff.patch").read_text()
    git(checkout, "checkout", "-q", "--", "loss.py")
    git(checkout, "apply", str(tmp_path / "diff.patch"))
    assert (checkout / "loss.py").read_text() == "x = 2\n"


def test_a_diff_is_truncated_and_holds_no_password(checkout, monkeypatch):
    monkeypatch.setattr(environment, "_MAX_DIFF", 300)
    (checkout / "loss.py").write_text("uri = 'postgresql://me:s3cr3t@host/db'\n" + "y = 1\n" * 500)
    diff = provenance([checkout / "loss.py"])["diff"]
    assert "s3cr3t" not in diff and "***@host" in diff
    assert len(diff) < 400 and "cut:" in diff


def test_only_the_projects_own_changes_are_recorded_in_full(checkout, monkeypatch):
    (checkout / "settings.py").write_text("key = 2\n")
    (checkout / "new.py").write_text("y = 1\n")
    facts = provenance()
    assert facts["diff"] == "" and facts["checkouts"][0]["untracked"] == []
    package = checkout / "src"
    package.mkdir()
    (package / "__init__.py").touch()
    git(checkout, "add", "src/__init__.py")
    git(checkout, "commit", "-q", "-m", "two")
    monkeypatch.setattr(environment, "_PACKAGE", package)
    for name in ("_state", "_root", "_diff"):
        getattr(environment, name).cache_clear()
    facts = provenance()
    assert "+key = 2" in facts["diff"] and facts["checkouts"][0]["untracked"] == ["new.py"]


@pytest.mark.parametrize("what", ["clean", "process", "required", "fsmonitor", "textconv", "hook"])
def test_inspecting_a_repository_runs_none_of_its_commands(checkout, tmp_path, what):
    ran = tmp_path / "ran"
    script = tmp_path / "script.sh"
    script.write_text(f"#!/bin/sh\ntouch {ran}\ncat\n")
    script.chmod(0o755)
    (checkout / ".gitattributes").write_text("*.py filter=a=b diff=odd\n")
    if what in ("clean", "process", "required"):
        git(checkout, "config", f"filter.a=b.{what.replace('required', 'clean')}", str(script))
        git(checkout, "config", "filter.a=b.required", str(what == "required").lower())
    elif what == "fsmonitor":
        git(checkout, "config", "core.fsmonitor", str(script))
    elif what == "textconv":
        git(checkout, "config", "diff.odd.textconv", str(script))
        git(checkout, "config", "diff.odd.command", str(script))
    else:
        hooks = checkout / ".git" / "hooks"
        hooks.mkdir(exist_ok=True)
        (hooks / "post-index-change").write_text(script.read_text())
        (hooks / "post-index-change").chmod(0o755)
    (checkout / "loss.py").write_text("x = 3\n")
    facts = provenance([checkout / "loss.py"])
    assert facts["checkouts"][0]["dirty"] and "+x = 3" in facts["diff"]
    assert not ran.exists()


def test_a_diff_hides_values_named_as_secrets():
    python = "diff --git a/a.py b/a.py\n"
    kept = "+cls_token = nn.Parameter(x)\n+x = f(token=token)\n+key = 'name'\n"
    assert redact_diff(python + kept) == python + kept
    hidden = "+DB = dict(user='u', password='***')\n+a['api_key'] = \"***\"\n"
    shown = hidden.replace("***", "h4ts off")
    assert redact_diff(python + shown) == python + hidden
    other = "diff --git a/.env b/.env\n"
    shown = "+export PASSWORD=h4ts off\n-token: x1\n key=2\n"
    hidden = "+export PASSWORD=***\n-token: ***\n key=2\n"
    assert redact_diff(other + shown + python + kept) == other + hidden + python + kept
    begin, end = (f"+-----{word} PRIVATE KEY-----\n" for word in ("BEGIN", "END"))
    assert "MIIE" not in redact_diff(python + begin + "+MIIE\n" + end)


def test_no_git_no_repository_or_no_commit_is_not_an_error(checkout, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    for folder in (empty, tmp_path):
        monkeypatch.chdir(folder)
        assert provenance()["checkouts"] == []
    monkeypatch.chdir(checkout)
    environment._root.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert provenance()["checkouts"] == [] and provenance()["diff"] == ""


def test_a_package_installed_inside_a_work_tree_does_not_belong_to_it(checkout, monkeypatch):
    installed = checkout / ".venv" / "rarelab"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    monkeypatch.setattr(environment, "_PACKAGE", installed)
    monkeypatch.chdir(checkout.parent)
    assert environment.checkouts() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:pw@host/db", "postgresql://***@host/db"),
        ("http://token@host:5000/x", "http://***@host:5000/x"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("https://host/path@2x", "https://host/path@2x"),
        ("at a http://u:p@h and b http://v:q@i", "at a http://***@h and b http://***@i"),
        ("postgresql://u:p@rt@host:1/db", "postgresql://***@host:1/db"),
        ("postgresql://u:p/?#w@host/db", "postgresql://***@host/db"),
        (
            "http://host:5000/path@2x and http://h:5000",
            "http://host:5000/path@2x and http://h:5000",
        ),
        ("pg://h/db?user=u&password=123&sslmode=on", "pg://h/db?user=u&password=***&sslmode=on"),
        ("'https://h/?token=abc' said", "'https://h/?token=***' said"),
        ("https://h/x?sv=1&sig=ab%2Fc", "https://h/x?sv=1&sig=***"),
        ("mssql:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dy", "mssql:///?odbc_connect=***"),
        ("odbc_connect=DRIVER={x y};UID=u;PWD=z;A=b", "odbc_connect=*** y};UID=u;PWD=***;A=b"),
        ("DRIVER%3Dx%3BPWD%3Dy%3BA%3Db", "DRIVER%3Dx%3BPWD%3D***%3BA%3Db"),
    ],
)
def test_passwords_are_removed_from_uris(text, expected):
    assert redact_uri(text) == expected


def test_settings_with_secret_names_lose_their_value():
    line = "rarelab train model.d_token=192 dataset.api_key='a b' x.password=hunter2,y=1"
    expected = "rarelab train model.d_token=192 dataset.api_key=*** x.password=***,y=1"
    assert redact_command(line) == expected
    assert redact_setting("db.password", "null") == "null"


def test_values_of_secret_environment_variables_are_redacted_anywhere(monkeypatch):
    monkeypatch.setenv("SOME_API_TOKEN", "abcdefgh1234")
    monkeypatch.setenv("SHORT_TOKEN", "on")
    assert redact_text("say abcdefgh1234 on") == "say *** on"


@pytest.mark.parametrize(
    ("name", "value", "text", "expected"),
    [
        ("DB_PASSWORD", "h4t!", "login u h4t! failed", "login u *** failed"),
        ("DB_PASSWORD", "h4t!", "sh4t!s", "sh4t!s"),
        ("STRIPE_KEY", "live-9x8y7z6w", "with live-9x8y7z6w", "with ***"),
        ("GH_PAT", "abcdefgh1", "abcdefgh1", "***"),
        ("A_TOKEN", "p@ss w/rd+1", "x://h?a=p%40ss%20w%2Frd%2B1", "x://h?a=***"),
        ("SOME_KEY", "1234", "dataset.n_samples=1234", "dataset.n_samples=1234"),
        ("KEYBOARD", "pc105-layout", "pc105-layout", "pc105-layout"),
        ("SSH_KEY", "/home/me/.ssh/id", "/home/me/.ssh/id", "/home/me/.ssh/id"),
    ],
)
def test_which_names_mark_a_variable_as_secret(monkeypatch, name, value, text, expected):
    monkeypatch.setenv(name, value)
    assert redact_text(text) == expected


def test_parts_of_the_stores_password_quoted_by_a_driver_are_redacted(monkeypatch):
    from rarelab.tracking import redact, resolve_uri

    monkeypatch.setattr(redact, "_known", set())
    resolve_uri(Path("home"), "postgresql://ann:p@hunter2@db.example/x?sslpassword=se%2Fcret")
    text = 'no host named "hunter2@db.example", "se/cret" or "ann"'
    assert redact_text(text) == 'no host named "***@db.example", "***" or "ann"'


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("test/class/>50K/aucpr", "test/class/_50K/aucpr"),
        ("optimizer.lr", "optimizer.lr"),
        ("a@[b]=%c", "a__b___c"),
        ("a//b", "a/_/b"),
        ("../a", "__/a"),
        ("naïve café", "na_ve caf_"),
        ("", "_"),
    ],
)
def test_names_become_valid_in_mlflow(name, expected):
    from mlflow.utils.validation import _validate_metric_name

    assert clean_name(name) == expected
    _validate_metric_name(expected)


def test_long_and_colliding_names_stay_distinct():
    names = Names()
    long = ["k" * 300, "k" * 301, ">50K", "<50K", "_50K"]
    cleaned = [names(name) for name in long]
    assert len(set(cleaned)) == 5 and max(map(len, cleaned)) == MAX_NAME
    assert [names(name) for name in long] == cleaned
    assert clean_values({"a@": "1", "a_": "2"}, 5)["a_"] == "2"
