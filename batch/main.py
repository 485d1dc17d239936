"""The `nightshift` command: one file per command under `batch.commands`, loaded when it is used."""

from __future__ import annotations

import difflib
import errno
import gc
import importlib
import os
import signal
import sys
import tempfile
import traceback
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import click

from batch.language import _, teach_click
from jobs.celery_settings import forget_celerys
from jobs.errors import NightshiftError
from jobs.message import N_, message_of
from jobs.secret import no_core_dumps

if TYPE_CHECKING:
    from batch.cli.envfile import EnvFile

COMMANDS = {
    "run": N_("Run a file of requests and wait for the answers."),
    "submit": N_("Store a job; a coordinator and workers run it."),
    "status": N_("List all jobs, or show one in detail."),
    "watch": N_("Follow a job until it ends."),
    "resume": N_("Continue a stopped job or retry failures."),
    "pause": N_("Pause a job; calls in flight finish."),
    "cancel": N_("Cancel a job; answers received are kept."),
    "results": N_("Write the results so far."),
    "failures": N_("Show why requests failed, by cause."),
    "history": N_("Show what happened to a job."),
    "show": N_("Show one request: prompt, answer, calls, cost."),
    "review": N_("Write rows for a person to check, and score a job."),
    "cost": N_("Show what a job cost."),
    "rm": N_("Remove jobs that are over."),
    "prune": N_("Remove old jobs, or show how much room jobs take."),
    "settle": N_("Release what is reserved for lost workers."),
    "budget": N_("Show or set daily and monthly spending caps for all jobs."),
    "validate": N_("Check a file; nothing is sent."),
    "preview": N_("Show requests as they would be sent; nothing is sent."),
    "estimate": N_("Check a file and estimate its cost; nothing is sent."),
    "worker": N_("Run a worker: call the endpoint."),
    "coordinator": N_("Run the coordinator: dispatch jobs and collect results."),
    "flower": N_("Run the web dashboard (Flower)."),
    "serve": N_("Serve OpenAI's Files and Batches API for other programs."),
    "keys": N_("Manage the API keys of nightshift serve."),
    "doctor": N_("Check the setup and suggest fixes."),
    "completion": N_("Print a completion script for a shell."),
}

HELP = N_("""\
Runs large JSONL files of chat requests, or a question about each row of a table, overnight and
within a budget in roubles.

\b
  nightshift estimate reviews.jsonl               estimate the cost
  nightshift run reviews.jsonl --budget-rub 500   run it on this machine
  nightshift run reviews.csv --model minimax/minimax-m1 --prompt 'Tone? {{ review }}'
  nightshift resume latest                        continue after any stop
  nightshift doctor                               check the setup

The key is read from ROUTERAI_API_KEY. Every option can be set as NIGHTSHIFT_<OPTION>, also in a
file .env. JOB is a job id, a unique beginning or end of one, a job's name, or "latest", which it is
where it can be left out.

\b
Exit codes:
  0    every request is answered
  1    some failed or were skipped; see errors.jsonl
  2    wrong usage or invalid input; nothing was sent
  3    paused, needs your action; the output says how to continue
  4    a service or the disk is unavailable
  5    cancelled
  130  interrupted; the job is saved, resume continues it
""")


class _ReaderGone(Exception):
    """Nobody reads our standard output any more. click would end with 1 for a broken pipe."""


class _Commands(click.Group):
    """Lists commands without importing them: `--help` is instant."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGone from None

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"batch.commands.{cmd_name}")
        gc.freeze()
        gc.enable()
        return _translated(module.command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Says what was probably meant where there is no such command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            meant = difflib.get_close_matches(args[0], COMMANDS, 1)
            way = _("Run with --help for a list of commands.")
            if meant:
                way = _("Did you mean {command}?").format(command=meant[0])
            there_is_none = _("There is no command {command!r}.").format(command=args[0])
            ctx.fail(f"{there_is_none} {way}")
        if args and ctx.obj is not None and not {"-h", "--help"} & set(args):
            ctx.obj.ask(args[0], args[1:])
        if args and args[0] in COMMANDS:
            _tell_unknown_variables(args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section(_("Commands")):
            formatter.write_dl([(name, _(told)) for name, told in COMMANDS.items()])

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help in the reader's language, which `.env` may have chosen."""
        _translated(self)
        super().format_help(ctx, formatter)


def _tell_unknown_variables(command: str) -> None:
    """Names of settings that mean nothing are told, and those that may be meant as caps refused."""
    from batch.unknown_variables import PREFIX, check_variables

    if any(name.startswith(PREFIX) for name in os.environ):
        for told in check_variables(os.environ, command, COMMANDS):
            _say(f"nightshift: {told}")


def _translated(command: click.Command) -> click.Command:
    """The command with its helps in the reader's language."""
    command.help = command.help and _(command.help)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.help:
            parameter.help = _(parameter.help)
    return command


@click.group(cls=_Commands, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nightshift")
def cli() -> None:
    """See HELP."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of a disk; what concerns a job's own files is told where it is met."""


def _full(error: OSError) -> int:
    why = _("the output cannot be written: {why}").format(why=error.strerror)
    _say(f"nightshift: {why}")
    _say("  " + _("free up space and run the command again; no answers are lost"))
    return 4


_KIND = 0xFF
_OF_A_DISK = {3, 5, 8, 10, 11, 13, 14, 26}
"""What SQLite says (its codes) of a file that is locked, cut, foreign or on a disk that fails."""


def _failed(error: Exception) -> int:
    if isinstance(error, OSError) and error.errno in _FULL:
        return _full(error)
    if getattr(error, "sqlite_errorcode", 0) & _KIND in _OF_A_DISK:
        told = _("the job's files cannot be used: {why}").format(why=_(message_of(error)))
        _say(f"nightshift: {told}")
        return 4
    return _crashed(error)


def _crashed(error: Exception) -> int:
    """A fault of our own: kept in a file for whoever mends it, told in a sentence."""
    descriptor, path = tempfile.mkstemp(prefix="nightshift-crash-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        # Where it went wrong, without the texts of exceptions: those may quote prompts.
        for at in traceback.extract_tb(error.__traceback__):
            file.write(f"{at.filename}:{at.lineno} in {at.name}\n")
        file.write(f"{type(error).__qualname__}\n")
    told = _("internal error ({kind}); no answers are lost")
    click.echo(f"nightshift: {told.format(kind=type(error).__name__)}", err=True)
    click.echo("  " + _("please report {path}").format(path=path), err=True)
    click.echo("  " + _("nightshift resume continues the job"), err=True)
    return 4


def main() -> None:
    """Runs a command; every error ends in a sentence and an exit code, never in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            # Windows-1251 and others have no sign for roubles.
            stream.reconfigure(errors="replace")
    try:
        code = _run()
    except (_ReaderGone, BrokenPipeError):
        # As `head` does.
        _silence(sys.stdout)
        code = 0
    # Nothing is left to be interrupted.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # its terminal is gone
            _silence(stream)
    sys.exit(code)


def _silence(stream: TextIO) -> None:
    """What is still buffered must not fail at the exit, whose code would be Python's then."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end_in_order() -> None:
    """SIGTERM, and a terminal that goes away, end a command that has no better use for them as
    Ctrl-C does: what it has begun is undone, and its server is not left behind. A second one kills.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


_heard: list[int] = []
"""Signals that came. A module that is interrupted while it loads may raise whatever it likes."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    _heard.append(number)
    signal.default_int_handler(number, frame)


def _end(number: int, _frame: FrameType | None) -> None:
    _heard.append(number)
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def _ended() -> int:
    if _heard[0] == signal.SIGINT:
        click.echo(_("interrupted"), err=True)
    return 128 + _heard[0]


def _run() -> int:
    try:
        no_core_dumps()
        forget_celerys(os.environ)
        _end_in_order()
        teach_click()
        code = cli.main(prog_name="nightshift", standalone_mode=False, obj=_env_file())
        sys.stdout.flush()
    except click.ClickException as error:
        _with_variable(error).show()
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo(_("interrupted"), err=True)
        return 130
    except NightshiftError as error:
        _say(f"nightshift: {_(error.message)}")
        for line in _(error.hint).splitlines():
            _say(f"  {line.strip()}")
        return error.exit_code
    except (_ReaderGone, BrokenPipeError):
        raise
    except Exception as error:
        if _heard:
            return _ended()
        if isinstance(error, ImportError):
            raise
        return _failed(error)
    return code if isinstance(code, int) else 0


def _env_file() -> EnvFile | None:
    """That of the working folder, read, where there is one."""
    if not os.path.lexists(".env"):
        return None
    from batch.cli.envfile import NAME, EnvFile

    found = EnvFile(Path(NAME))
    found.load()
    return found


def _with_variable(error: click.ClickException) -> click.ClickException:
    """Names the variable where a wrong value was never typed but came from the environment."""
    if isinstance(error, click.BadParameter) and error.ctx and error.param and error.param.name:
        source = error.ctx.get_parameter_source(error.param.name)
        if source is click.core.ParameterSource.ENVIRONMENT:
            origin = _("set by {variable}").format(variable=error.param.envvar)
            text = f"{error.message} ({origin})"
            return click.BadParameter(text, ctx=error.ctx, param=error.param)
    return error


def _say(text: str) -> None:
    from batch.cli.terminal import Manners, safe, say

    Manners.quiet = False
    # A path may hold bytes that are no text, and a name what would write over the screen.
    say(safe(text.encode("utf-8", "replace").decode()))


if __name__ == "__main__":
    main()
