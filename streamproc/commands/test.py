"""`streamproc test`: policy tests; and a regression case from an incident that was."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from rich.console import Console
from rich.text import Text

from streamproc.commands.common import DEFAULT_DATA, PROBLEMS, AsJson, ConfigFile, DataDir
from streamproc.commands.console import count_of
from streamproc.commands.reasons import sentence
from streamproc.commands.site import OnKafka
from streamproc.commands.written import write_whole
from streamproc.core.errors import Unusable
from streamproc.policytest.judging import Failure, Told
from streamproc.policytest.junit import junit
from streamproc.policytest.playing import Result, ground_of, play
from streamproc.policytest.reading import Read, Unreadable, find, read
from streamproc.runtime.collector import tune

UNUSABLE = 2


def play_tests(
    tests: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files, and folders of *.test.yaml; with --from the folder, or the new file, to write.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", help="File for the results as JUnit XML.", dir_okay=False)
    ] = None,
    as_json: AsJson = False,
    only: Annotated[str, typer.Option("--only", "-k", help="Play cases alone whose name has this in it.")] = "",
    incident: Annotated[
        str, typer.Option("--from", help="Write a case from this incident instead of playing any.", show_default=False)
    ] = "",
    expect: Annotated[
        Literal["as-it-was", "page", "no-page"], typer.Option(help="With --from: what is expected from now on.")
    ] = "as-it-was",
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
) -> None:
    """Play policy tests: alerts and times, and what must come of them.

    Each case is played on a clock of its own through the production topology; nothing is sent. Exit code 0 where all
    pass, 1 where one fails, 2 where files or settings cannot be used.
    """
    if incident:
        from streamproc.commands.testfrom import write_case  # noqa: PLC0415  reads logs, which plain tests do not

        write_case(incident, tests or [], expect, data_dir, config, kafka=kafka)
        return
    if not tests:
        raise Unusable("name the tests: files, or a folder of *.test.yaml, for example `streamproc test policies/`")
    tune()
    results = _play(_read(find(tests)), config, only)
    if only and not results:
        raise Unusable(f"no case has {only!r} in its name")
    if junit_file is not None:
        write_whole(junit_file, junit(results, told), private=False)
    if as_json:
        sys.stdout.write(orjson.dumps(_summary(results), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _show(results)
    if not all(result.passed for result in results):
        raise typer.Exit(PROBLEMS)


def _read(files: Sequence[Path]) -> list[Read]:
    """Return the tests; where a file cannot be used every fault of every file is told."""
    found: list[Read] = []
    faults: list[str] = []
    for file in files:
        try:
            found.append(read(file))
        except Unreadable as error:
            faults.extend(error.faults)
    if faults:
        for fault in faults:
            typer.echo(fault, err=True)
        raise typer.Exit(UNUSABLE)
    return found


def _play(files: Sequence[Read], config: Path | None, only: str) -> list[Result]:
    grounds = [(tests, ground_of(tests, config)) for tests in files]
    return [result for tests, ground in grounds for result in play(tests, ground, only)]


def _show(results: Sequence[Result]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for result in results:
        if not result.passed:
            console.print(_failed(result))
    failed = sum(not result.passed for result in results)
    seconds = sum(result.seconds for result in results)
    passed = f"{count_of(len(results) - failed, 'case')} passed"
    if failed:
        console.print(
            Text.assemble((f"{count_of(failed, 'case')} failed", "bold red"), f", {passed}, in {seconds:.1f} s")
        )
    else:
        console.print(Text.assemble((passed, "bold green"), f" in {seconds:.1f} s"))


def told(result: Result) -> str:
    """Return a failed case as plain text."""
    return _failed(result).plain


def _failed(result: Result) -> Text:
    said = Text.assemble(("FAIL ", "bold red"), (result.case.name, "bold"), (f"  {result.file}:{result.line}\n", "dim"))
    for letter in result.letters:
        said.append(f"  refused: {letter}\n", "yellow")
    for failure in result.failures:
        said.append(_failure(failure))
    return said


def _failure(failure: Failure) -> Text:
    said = Text.assemble("  expected ", (failure.expected, "green"), (f"  line {failure.line}\n", "dim"))
    said.append(f"  came     {'' if failure.came else 'nothing of the kind'}\n")
    for line in failure.came:
        said.append(f"    {line}\n", "red" if line.startswith("* ") else "")
    if failure.why:
        said.append("  why\n")
    for one in failure.why:
        said.append(_why(one))
    return said


def _why(one: Told) -> Text:
    said = Text.assemble(f"    {one.what}\n")
    for why in one.chain:
        said.append(f"      {why.stage:12} {why.reason:16} {sentence(why.stage, why.reason)}\n", "dim")
    return said


def _summary(results: Sequence[Result]) -> dict[str, Any]:
    failed = sum(not result.passed for result in results)
    return {"passed": len(results) - failed, "failed": failed, "cases": [_case(result) for result in results]}


def _case(result: Result) -> dict[str, Any]:
    return {
        "file": str(result.file),
        "line": result.line,
        "name": result.case.name,
        "passed": result.passed,
        "seconds": round(result.seconds, 4),
        "refused": list(result.letters),
        "failures": [
            {
                "line": failure.line,
                "expected": failure.expected,
                "came": [{"meant": line.startswith("* "), "what": line[2:]} for line in failure.came],
                "why": [
                    {"what": one.what, "chain": [{"stage": why.stage, "reason": why.reason} for why in one.chain]}
                    for one in failure.why
                ],
            }
            for failure in result.failures
        ],
    }
