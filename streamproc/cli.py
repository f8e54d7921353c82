"""The command line: which commands there are, and what their errors and exit codes are. No logic of theirs.

A command's module is imported only when the command is called or asked for help, so that `--help` and completion
answer at once.
"""

from __future__ import annotations

from importlib import import_module
from inspect import cleandoc
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from streamproc import __version__
from streamproc.core.errors import StreamprocError

EXITS = {
    "Unusable": 2,
    "Rejected": 2,
    "Defect": 3,
    "StorageFailure": 4,
    "Transient": 5,
    "OutsideRefused": 5,
    "StreamprocError": 3,
}
"""Exit code by class of error, or by the nearest that it derives from. By name: the classes are not loaded yet."""
INTERRUPTED = 130

EPILOG = (
    "Exit codes: 0 all is well; 1 a check found problems; 2 wrong usage, settings or input; 3 the pipeline stopped "
    "itself to keep a promise, or `backtest` found what --fail-on names; 4 the disk or the data file failed; "
    "5 the outside refused or did not answer; 6 it cannot be told; 130 interrupted."
    "\n\n"
    "First steps: `streamproc try --alertmanager URL`, which changes nothing; then `streamproc init`."
)


class Entry(NamedTuple):
    """One command, before it is loaded."""

    name: str
    place: str
    """`module:attribute` under streamproc.commands: a function, or a Typer app with commands of its own."""
    help: str
    """First line of the command's own help."""
    panel: str
    hidden: bool = False


START, WORK, KAFKA, LOOK, TRY = "Start here", "Run", "On Kafka", "Look and understand", "Try out"
COMMANDS = (
    Entry(
        "demo",
        "demo:demo",
        "Watch alerts become pages: the real pipeline, a PagerDuty emulator, and half a minute of trouble.",
        START,
    ),
    Entry("try", "trial:trial", "Show what would page, from what a real Alertmanager has firing now.", START),
    Entry("init", "init:init", "Write a commented settings file, and show what to paste into Alertmanager.", START),
    Entry("test-page", "testpage:page_a_test", "Send a test page to PagerDuty, and resolve it again.", START),
    Entry("check", "check:check", "Check settings, files and services, without the network.", START),
    Entry("run", "run:run", "Run the pipeline: gateway, decisions, and pages to PagerDuty.", WORK),
    Entry(
        "beside",
        "beside:app",
        "What your existing route paged, against what we would have paged.",
        WORK,
    ),
    Entry("arm", "arming:arm", "Let pages go out; what is open now is adopted with one summary.", WORK),
    Entry("disarm", "arming:disarm", "Back to the dry run: everything is decided, and nothing new is sent.", WORK),
    Entry("silence", "silence:app", "Silences and maintenance windows: add, list, expire.", WORK),
    Entry("shadow", "shadow:app", "A candidate beside production, on live traffic: start, look, stop, promote.", WORK),
    Entry("rollback", "history:rollback", "Go back to settings that counted before.", WORK),
    Entry("history", "history:history", "List which settings counted when, who wanted them, and why.", LOOK),
    Entry("services", "services:app", "The service catalogue: apply, check, show.", WORK),
    Entry(
        "pagerduty",
        "pagerduty:app",
        "PagerDuty's account: services into the catalogue, and the webhook.",
        WORK,
    ),
    Entry("topics", "kafka:topics", "Topics at the broker: apply, check, describe.", KAFKA),
    Entry(
        "worker", "kafka:worker", "Run one worker of the pipeline on Kafka: decisions, and pages to PagerDuty.", KAFKA
    ),
    Entry(
        "gateway",
        "kafka:gateway",
        "Run one gateway of the pipeline on Kafka: alerts in, incidents to look at.",
        KAFKA,
    ),
    Entry("status", "status:status", "Show how the pipeline stands.", LOOK),
    Entry(
        "doctor",
        "doctor:doctor",
        "Look at everything that a pipeline stands on, and say for each fault its mend.",
        LOOK,
    ),
    Entry("health", "health:health", "Report how the pipeline stands: for people, programs and a bug report.", LOOK),
    Entry(
        "explain", "explain:explain", "Show why an incident paged, or did not: from the raw alert to the page.", LOOK
    ),
    Entry(
        "verify",
        "verify:verify",
        "Derive pages again from the log, and say whether they come out the same, bit for bit.",
        LOOK,
    ),
    Entry("dead-letters", "deadletters:app", "Input that could not be used: list, show, retry.", LOOK),
    Entry("graph", "graph:graph", "Draw the pipeline.", LOOK),
    Entry(
        "backtest",
        "backtest:backtest",
        "Replay recorded traffic in event time, and show what it would have come to.",
        TRY,
    ),
    Entry("advise", "advise:advise", "Propose changes from recorded traffic, each one backtested on it.", TRY),
    Entry("test", "test:play_tests", "Play policy tests: alerts and times, and what must come of them.", TRY),
    Entry("record", "record:record", "Capture raw traffic into compressed files, redacted.", TRY),
    Entry("scrub", "scrub:scrub_files", "Redact recorded traffic: stable pseudonyms in place of what it names.", TRY),
    Entry("emulator", "emulator:emulator", "Run a PagerDuty emulator on this machine.", TRY),
    Entry("generate", "generate:generate", "Write schemas and reference docs from the code.", TRY, hidden=True),
)


class Commands(TyperGroup):
    """The commands, loaded when they are called; their errors become one line and an exit code."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for entry in COMMANDS:
            stub = TyperCommand(entry.name, help=entry.help, rich_help_panel=entry.panel, hidden=entry.hidden)
            self.commands[entry.name] = stub

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name, the loaded command and the remaining arguments."""
        name, found, rest = super().resolve_command(ctx, args)
        entry = next((entry for entry in COMMANDS if entry.name == name), None)
        return name, found if entry is None else load(entry), rest

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what it raises on purpose is said in one line."""
        try:
            return super().invoke(ctx)
        except StreamprocError as error:
            typer.echo(f"streamproc: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(exit_code(error)) from error
        except typer.Abort:
            raise typer.Exit(INTERRUPTED) from None


def load(entry: Entry) -> Any:
    """Return a command, its module imported."""
    module, _, attribute = entry.place.partition(":")
    found = getattr(import_module(f"streamproc.commands.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False)
        alone.command(entry.name)(found)
        found = alone
    command = typer.main.get_command(found)
    command.name = entry.name
    _unwrap(command)
    return command


def _unwrap(command: Any) -> None:
    """Let the help of a command, and of those within it, wrap where the terminal ends, not where the source does."""
    if command.help:
        paragraphs = cleandoc(command.help).split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for within in getattr(command, "commands", {}).values():
        _unwrap(within)


def exit_code(error: StreamprocError) -> int:
    """Return the exit code of an error."""
    return next(EXITS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in EXITS)


app = typer.Typer(cls=Commands, epilog=EPILOG, no_args_is_help=True, pretty_exceptions_enable=False)


def _say_version(wanted: bool) -> None:  # noqa: FBT001  typer calls it with the flag
    if wanted:
        typer.echo(f"streamproc {__version__}")
        raise typer.Exit


@app.callback()
def streamproc(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """One page per real incident, and every decision explained.

    A stream processor between monitoring (Alertmanager, Datadog, anything with JSON) and PagerDuty.
    """


def main() -> None:
    """Run the command line; the console script."""
    app(prog_name="streamproc")
