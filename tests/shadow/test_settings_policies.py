"""Policies of the settings file: what is refused, and which records make exactly those stand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamproc.backtest.reading import Line
from streamproc.backtest.replay import Replay
from streamproc.core.errors import Unusable
from streamproc.events.feedback import Matcher, Policy, PolicyKind
from streamproc.policies import PolicyConfig, body_of, policies_of, wishes
from streamproc.settings import Settings, load
from tests.support.play import alert, notification, webhook

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def silence(**more: Any) -> PolicyConfig:
    given = {"matchers": ['service="batch"'], "ends_at": T0 + 5 * HOUR, "reason": "noisy until the fix", **more}
    return PolicyConfig.model_validate(given)


def stands(version: int = 1, **more: Any) -> Policy:
    return silence().policy("batch", T0 - HOUR, version).model_copy(update=more)


@pytest.mark.parametrize(
    ("known", "wanted", "told"),
    [
        pytest.param([], {"batch": silence()}, [("settings/batch", 1, T0, False)], id="a new one begins now"),
        pytest.param(
            [], {"batch": silence(starts_at=T0 + HOUR)}, [("settings/batch", 1, T0 + HOUR, False)], id="later"
        ),
        pytest.param([stands()], {"batch": silence()}, [], id="the same one stands"),
        pytest.param(
            [stands(3)],
            {"batch": silence(matchers=['service="jobs"'])},
            [("settings/batch", 4, T0 - HOUR, False)],
            id="a changed one goes on as the next version",
        ),
        pytest.param(
            [stands(2, withdrawn=True)],
            {"batch": silence()},
            [("settings/batch", 3, T0, False)],
            id="one that comes back begins anew",
        ),
        pytest.param(
            [stands(starts_at=T0 + HOUR)],
            {"batch": silence()},
            [("settings/batch", 2, T0, False)],
            id="one that was to begin later, and says so no more, begins now",
        ),
        pytest.param([stands(2)], {}, [("settings/batch", 3, T0 - HOUR, True)], id="one that left is withdrawn"),
        pytest.param([stands(2, withdrawn=True)], {}, [], id="one that was withdrawn stays so"),
        pytest.param([stands(ends_at=T0)], {}, [], id="one that has ended needs no withdrawal"),
        pytest.param([], {"batch": silence(ends_at=T0)}, [], id="one that has ended already is none"),
        pytest.param([stands(policy_id="silence:abc")], {}, [], id="those of people are left alone"),
    ],
)
def test_what_is_told(
    known: list[Policy], wanted: dict[str, PolicyConfig], told: list[tuple[str, int, datetime, bool]]
) -> None:
    found = wishes(wanted, known, T0)
    assert [(one.policy_id, one.version, one.starts_at, one.withdrawn) for one in found] == told


def test_a_policy_says_all_that_the_file_says() -> None:
    one = silence(kind="maintenance", author="ann").policy("batch", T0, 1)
    assert (one.kind, one.author, one.reason, one.ends_at) == (
        PolicyKind.MAINTENANCE,
        "ann",
        "noisy until the fix",
        T0 + 5 * HOUR,
    )
    assert one.matchers == (Matcher(name="service", op="=", value="batch"),)


def test_the_body_of_the_artifact_holds_them_all() -> None:
    policies = {"b": silence(), "a": silence(starts_at=T0)}
    assert policies_of(body_of(policies)) == policies
    assert body_of(dict(reversed(policies.items()))) == body_of(policies)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param("matchers: [service]", "policies.batch.matchers", id="no matcher"),
        pytest.param("matchers: []", "policies.batch.matchers", id="without any"),
        pytest.param("""matchers: ['service=~".*"']""", "would mute everything", id="everything"),
        pytest.param("ends_at: 2026-01-01T00:00:00Z\n    starts_at: 2026-02-01T00:00:00Z", "needs an end", id="turned"),
        pytest.param("ends_at: 2026-01-01T00:00:00", "policies.batch.ends_at", id="no offset"),
        pytest.param("kind: arm", "policies.batch.kind", id="arming"),
        pytest.param("matcher: x", "did you mean `matchers`?", id="a wrong key"),
    ],
)
def test_a_fault_is_named_with_its_place(given: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "streamproc.yaml"
    rest = {"matchers": """['service="batch"']""", "ends_at": "2026-06-01T00:00:00Z", "reason": "noisy"}
    lines = [
        f"{key}: {value}"
        for key, value in rest.items()
        if key not in [line.split(":")[0].strip() for line in given.splitlines()]
    ]
    file.write_text("policies:\n  batch:\n    " + "\n    ".join([given, *lines]) + "\n")
    with pytest.raises(Unusable, match=said.replace("?", r"\?")):
        load(file)


def test_what_was_told_does_not_depend_on_defaults_or_order(tmp_path: Path) -> None:
    file = tmp_path / "streamproc.yaml"
    key = "k" * 32
    file.write_text(
        f"pagerduty: {{destinations: {{default: {{routing_key: {key}}}}}}}\nescalate: {{page: [error, critical]}}\n"
        "gateway: {port: 8099}\n"
    )
    told = load(file).told()
    assert told == (
        '{"escalate": {"page": ["critical", "error"]}, "pagerduty": {"destinations": {"default": {"routing_key": "'
        + key
        + '"}}}}'
    )


class Lines:
    """Keeps what a replay writes."""

    def __init__(self) -> None:
        self.pages: list[dict[str, Any]] = []

    def write(self, name: str, line: dict[str, Any]) -> None:
        if name == "pages":
            self.pages.append(line)


@pytest.mark.parametrize(
    ("policies", "pages"),
    [pytest.param({}, 1, id="without"), pytest.param({"db": silence(matchers=['service="db"'])}, 0, id="silenced")],
)
def test_a_backtest_plays_them(policies: dict[str, PolicyConfig], pages: int) -> None:
    told = notification(alert("db-1 down", "db"), T0, T0)
    line = Line(at=T0, number=1, source="alertmanager", body=webhook([told]).body)
    written = Lines()
    Replay(Settings(policies=policies), None, written).run([line], [], lambda: False)
    assert len(written.pages) == pages
