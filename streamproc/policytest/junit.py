"""Results as JUnit XML, in the form that Jenkins, GitLab and GitHub's reporters read. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from xml.etree import ElementTree as ET

from streamproc.policytest.playing import Result

_UNTELLABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, section 2.2."""


def junit(results: Sequence[Result], told: Callable[[Result], str]) -> str:
    """Return the document.

    Args:
        results: of all cases, those of one file together.
        told: writes a failure as text.
    """
    root = ET.Element("testsuites", _counted("streamproc policy tests", results))
    for file, some in groupby(results, key=lambda each: each.file):
        listed = list(some)
        suite = ET.SubElement(root, "testsuite", _counted(str(file), listed))
        for result in listed:
            case = ET.SubElement(
                suite,
                "testcase",
                classname=_clean(str(file)),
                name=_clean(result.case.name),
                file=_clean(str(file)),
                line=str(result.line),
                time=f"{result.seconds:.3f}",
            )
            if not result.passed:
                failure = ET.SubElement(case, "failure", message=_clean(result.summary), type="expectation")
                failure.text = _clean(told(result))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _counted(name: str, results: Iterable[Result]) -> dict[str, str]:
    listed = list(results)
    failed = sum(not result.passed for result in listed)
    seconds = sum(result.seconds for result in listed)
    return {
        "name": _clean(name),
        "tests": str(len(listed)),
        "failures": str(failed),
        "errors": "0",
        "time": f"{seconds:.3f}",
    }


def _clean(text: str) -> str:
    return _UNTELLABLE.sub("\N{REPLACEMENT CHARACTER}", text)
