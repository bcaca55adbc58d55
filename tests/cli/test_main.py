"""The command line as a whole: fast, and every failure a message with an exit code."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from smoe_cli.cli.main import COMMANDS, run
from smoe_cli.errors import Failure, UserError

ROOT = Path(__file__).parents[2]


def smoe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from smoe_cli.cli.main import main; main()", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module whose `body` is called by `smoe plan`."""
    module: Any = ModuleType("smoe_cli.cli.plan")

    @click.command("plan")
    @click.option("--count", type=int)
    def plan(count: int | None) -> object:
        return module.body()

    module.command = plan
    monkeypatch.setitem(sys.modules, "smoe_cli.cli.plan", module)
    monkeypatch.delenv("SMOE_DEBUG", raising=False)
    return module


def failing(error: BaseException) -> object:
    def body() -> None:
        raise error

    return body


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out and text in out for name, text in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_module(name: str) -> None:
    assert (ROOT / "smoe_cli" / "cli" / f"{name}.py").is_file()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from smoe_cli.cli.main import run; code = run(['--help']);"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers', 'pydantic', 'yaml', 'numpy', 'rich')],"
        "[m for m in sys.modules if m.startswith('smoe_cli.')], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    own = ["autoload", "cli", "errors", "cli.messages", "cli.main"]
    assert done.stderr.strip() == f"[] {[f'smoe_cli.{name}' for name in own]}"


def test_help_is_instant() -> None:
    def once() -> float:
        start = time.perf_counter()
        assert smoe("--help").returncode == 0
        return time.perf_counter() - start

    assert min(once() for _ in range(5)) < 0.5


def test_version() -> None:
    done = smoe("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "smoe,")


def test_no_arguments_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Commands:" in "".join(capsys.readouterr())


@pytest.mark.parametrize(("name", "help"), [("trian", "did you mean `train`?"), ("frobnicate", "commands: `validate`, `plan`")])
def test_unknown_command(name: str, help: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name]) == 2
    assert capsys.readouterr().err.startswith(f"error: no such command `{name}`\n  help: {help}")


def test_unknown_option(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--conut", "3"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: no such option")
    assert "--count" in err
    assert err.endswith("  help: `smoe plan --help` shows how it is called\n")


def test_bad_option(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--count", "many"]) == 2
    assert capsys.readouterr().err.startswith("error: invalid value for '--count'")


def test_success(command: Any) -> None:
    command.body = lambda: None
    assert run(["plan"]) == 0


@pytest.mark.parametrize("error", [UserError("wrong", "mend it"), Failure("broken", "buy a disk")])
def test_expected_errors(command: Any, error: UserError, capsys: pytest.CaptureFixture[str]) -> None:
    command.body = failing(error)
    assert run(["plan"]) == error.exit_code
    assert capsys.readouterr() == ("", f"error: {error.message}\n  help: {error.help}\n")


def test_unexpected_error(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command.body = failing(ZeroDivisionError("division\nby zero"))
    assert run(["plan"]) == 1
    line, help, end = capsys.readouterr().err.split("\n")
    assert line.startswith(f"internal error: ZeroDivisionError: division by zero ({Path(__file__)}:")
    assert help == "  help: this is a mistake in smoe; set SMOE_DEBUG=1 to see the traceback"
    assert end == ""


def test_unexpected_error_in_debug_mode(
    command: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOE_DEBUG", "1")
    command.body = failing(KeyError("x"))
    assert run(["plan"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interrupted(command: Any, error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    command.body = failing(error)
    assert run(["plan"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_end_of_file_is_not_an_interrupt(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command.body = failing(EOFError("truncated"))
    assert run(["plan"]) == 1
    assert "internal error: EOFError: truncated" in capsys.readouterr().err


def test_own_exit_code(command: Any) -> None:
    command.body = failing(SystemExit(143))
    with pytest.raises(SystemExit, match="143"):
        run(["plan"])


def test_reader_that_goes_away() -> None:
    script = (
        "import click, sys, types\n"
        "module = types.ModuleType('smoe_cli.cli.plan')\n"
        "module.command = click.command('plan')(lambda: [print('x' * 1000) for _ in range(10000)] and None)\n"
        "sys.modules['smoe_cli.cli.plan'] = module\n"
        "from smoe_cli.cli.main import main\n"
        "sys.argv = ['smoe', 'plan']\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


def test_recipe_errors_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "no-such.yaml"]) == 2
    assert capsys.readouterr().err.startswith("no-such.yaml: error: no such file")


def test_colours_on_a_terminal(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(click, "echo", lambda text=None, err=False: shown.append(text))
    command.body = failing(UserError("wrong: this", "mend it"))
    run(["plan"])
    assert shown == ["\x1b[31m\x1b[1merror:\x1b[0m wrong: this\n  \x1b[36m\x1b[1mhelp:\x1b[0m mend it"]
