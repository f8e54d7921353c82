"""Logs: one line a sentence, JSON for programs, also what other libraries say."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from streamproc.runtime.logs import configure

Form = Literal["auto", "console", "json"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_is_one_object_a_line() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    structlog.get_logger("x").info("The request was answered.", status=202)
    (line,) = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "The request was answered.", "level": "info", "status": 202}


def test_other_libraries_are_written_alike() -> None:
    out = io.StringIO()
    configure("debug", "json", out)
    logging.getLogger("uvicorn.error").info("not worth a line")
    try:
        1 / 0  # noqa: B018  the traceback to write
    except ZeroDivisionError:
        logging.getLogger("uvicorn.error").exception("It failed for %s.", "a reason")
    (line,) = lines(out)
    assert (line["event"], line["level"], line["logger"]) == ("It failed for a reason.", "error", "uvicorn.error")
    assert "ZeroDivisionError: division by zero" in line["exception"]


def test_a_traceback_stays_in_its_line() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    try:
        1 / 0  # noqa: B018  the traceback to write
    except ZeroDivisionError:
        structlog.get_logger().exception("It failed.")
    (line,) = lines(out)
    assert "ZeroDivisionError: division by zero" in line["exception"]


@pytest.mark.parametrize(
    ("level", "written"),
    [
        pytest.param("debug", ["d", "i", "w", "e"], id="debug"),
        pytest.param("info", ["i", "w", "e"], id="info"),
        pytest.param("warning", ["w", "e"], id="warning"),
        pytest.param("error", ["e"], id="error"),
    ],
)
def test_levels(level: str, written: list[str]) -> None:
    out = io.StringIO()
    configure(level, "json", out)
    log = structlog.get_logger()
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    assert [line["event"] for line in lines(out)] == written


@pytest.mark.parametrize(
    ("form", "out", "as_json", "coloured"),
    [
        pytest.param("auto", io.StringIO(), True, False, id="auto, no terminal"),
        pytest.param("auto", Terminal(), False, True, id="auto, a terminal"),
        pytest.param("console", io.StringIO(), False, False, id="console, no terminal"),
        pytest.param("console", Terminal(), False, True, id="console, a terminal"),
        pytest.param("json", Terminal(), True, False, id="json, a terminal"),
    ],
)
def test_forms(form: Form, out: io.StringIO, *, as_json: bool, coloured: bool) -> None:
    configure("info", form, out)
    structlog.get_logger().info("A sentence.", key="value")
    logging.getLogger("library").warning("Another.")
    first, second = out.getvalue().splitlines()
    assert first.startswith("{") is as_json
    assert second.startswith("{") is as_json
    assert ("\x1b[" in first) is coloured
    for part in ("A sentence.", "key", "value"):
        assert part in first
    assert "Another." in second


def test_standard_error_is_the_place(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    structlog.get_logger().info("A sentence.")
    said = capsys.readouterr()
    assert (said.out, "A sentence." in said.err) == ("", True)
