"""What one process may send: pure, in a time of the test's own; Redis is a model of its script here."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from streamproc.runtime.redis.share import LEASED_FOR, SPAN, Answer, Question, Share
from streamproc.runtime.work import CRITICAL, OTHER, RESOLVE

LIMIT = 100


def answer(granted: int = 5, *, left: int = 50, holders: int = 2, life: str = "1", **more: bool) -> Answer:
    return Answer(life, more.get("settling", False), 1000, granted, left, holders, ((0.0, granted),))


def leasing(limit: int = LIMIT, *, holders: int = 2, granted: int = 5) -> Share:
    share = Share(limit)
    share.take(share.ask(0.0), answer(granted, holders=holders), 0.0)
    return share


class TestLeasing:
    def test_uses_what_is_leased_and_no_more(self) -> None:
        share = leasing()
        assert (share.free(0.1), share.least_urgent(0.1)) == (5, OTHER)
        share.spend(0.1, 5)
        assert (share.free(0.2), share.least_urgent(0.2)) == (0, -1)
        assert share.next_free(0.2) == LEASED_FOR

    def test_gives_back_what_is_not_used(self) -> None:
        share = leasing()
        share.spend(0.1, 2)
        question = share.ask(0.25)
        assert question.back == (1000, 3)
        assert share.free(0.26) == 0, "it cannot be used while it is given back"

    def test_tells_what_was_sent_without_asking(self) -> None:
        share = leasing()
        share.spend(0.1, 7)
        question = share.ask(0.3)
        assert question.back == (1000, 0)
        assert [(round(age, 3), count) for age, count in question.told] == [(0.2, 2)]
        share.take(question, answer(), 0.3)
        assert share.ask(0.6).told == ()

    def test_asks_for_the_reserve_only_where_something_urgent_waits(self) -> None:
        share = leasing()
        floors = [share.ask(0.1).floor]
        for rank in (OTHER, RESOLVE, CRITICAL):
            share.want(rank)
            floors.append(share.ask(0.1).floor)
        assert floors == [10, 10, 5, 0]

    def test_what_is_leased_of_the_reserve_is_for_what_is_urgent(self) -> None:
        share = Share(LIMIT)
        share.take(share.ask(0.0), answer(3, left=2), 0.0)
        assert share.least_urgent(0.1) == CRITICAL
        share.take(share.ask(0.0), answer(3, left=6), 0.0)
        assert share.least_urgent(0.1) == RESOLVE
        share.take(share.ask(0.0), answer(3, left=-20), 0.0)
        assert share.least_urgent(0.1) == CRITICAL

    def test_all_leases_together_leave_most_of_the_limit(self) -> None:
        share = leasing(holders=10)
        assert (share.lease, leasing(holders=1).lease, leasing(limit=1).lease) == (2, 5, 1)

    def test_a_lease_that_is_not_renewed_in_time_ends_in_the_own_share(self) -> None:
        share = leasing()
        assert share.free(LEASED_FOR) > 5
        assert share.alone


class TestAlone:
    def test_has_its_share_less_its_part_of_what_all_have_sent(self) -> None:
        share = Share(LIMIT)
        sent = Answer("1", False, 1000, 5, 15, 2, ((30.0, 60), (1.0, 20), (0.0, 5)))
        share.take(share.ask(0.0), sent, 0.0)
        share.lose(1.0)
        others = share.lease
        assert share.free(1.0) == 50 - -(-(85 + others) // 2)
        assert share.free(SPAN - 30.0) == 50 - -(-(25 + others) // 2), "the oldest falls out of the window"
        assert share.free(SPAN + 1.0) == 50

    def test_counts_what_it_sends(self) -> None:
        share = leasing(granted=0)
        share.lose(1.0)
        share.take(share.ask(70.0), answer(0, settling=True), 70.0)
        assert (share.alone, share.free(70.0)) == (True, 50)
        share.spend(70.0, 48)
        assert share.least_urgent(70.0) == CRITICAL
        share.spend(71.0, 2)
        assert share.least_urgent(71.0) == -1
        assert share.next_free(71.0) == 70.0 + SPAN
        assert share.least_urgent(70.0 + SPAN) == OTHER

    def test_has_at_least_one(self) -> None:
        share = leasing(limit=1, holders=5, granted=0)
        share.lose(0.5)
        assert share.free(100.0) == 1

    def test_knows_of_no_other_where_it_never_met_any(self) -> None:
        share = Share(LIMIT)
        share.ask(0.0)
        share.lose(0.2)
        assert share.free(0.2) == LIMIT
        assert share.next_free(100.0) is None

    def test_tells_what_it_sent_once_there_is_somebody_to_tell(self) -> None:
        share = leasing()
        share.lose(1.0)
        share.spend(2.0, 3)
        lost = share.ask(3.0)
        share.lose(3.2)
        share.spend(3.3, 1)
        question = share.ask(4.0)
        assert [count for _, count in lost.told] == [3]
        assert [(round(age, 1), count) for age, count in question.told] == [(2.0, 3), (0.7, 1)]

    def test_tells_everything_again_where_redis_lost_it(self) -> None:
        share = leasing()
        share.spend(0.5, 4)
        share.spend(0.6, 3)
        emptied = share.ask(1.0)
        share.take(emptied, answer(0, life="2"), 1.0)
        assert share.alone
        question = share.ask(1.25)
        assert (question.known, [count for _, count in question.told]) == ("2", [5, 2])
        share.take(question, answer(0, life="2", settling=True, holders=1), 1.3)
        assert (share.alone, share.holders) == (True, 2), "those who have not told yet are still there"
        share.take(share.ask(9.0), answer(life="2", holders=1), 9.0)
        assert (share.alone, share.holders) == (False, 1)


@dataclass
class Model:
    """The script, in the time of the test."""

    limit: int
    spent: list[tuple[float, int]] = field(default_factory=list)

    def lease(self, question: Question, holders: int, now: float) -> Answer:
        self.spent.append((now, -question.back[1]))
        self.spent += [(now - age, count) for age, count in question.told]
        self.spent = [(moment, count) for moment, count in self.spent if moment + SPAN > now]
        total = sum(count for _, count in self.spent)
        granted = max(0, min(question.want, self.limit - total - question.floor))
        self.spent.append((now, granted))
        used = tuple((now - moment, count) for moment, count in self.spent)
        return Answer("1", False, int(now), granted, self.limit - total - granted, holders, used)


@given(
    limit=st.integers(4, 200),
    count=st.integers(1, 4),
    greed=st.lists(st.integers(0, 60), min_size=4, max_size=4),
    lost_at=st.integers(1, 70),
)
def test_at_a_loss_for_all_they_send_at_most_one_lease_each_above_the_limit(
    limit: int, count: int, greed: list[int], lost_at: int
) -> None:
    model, shares = Model(limit), [Share(limit) for _ in range(count)]
    sent: list[int] = []
    for turn in range(lost_at + 70):
        now = float(turn)
        sent.append(0)
        for number, share in enumerate(shares):
            question = share.ask(now)
            if turn < lost_at:
                share.take(question, model.lease(question, count, now), now)
            else:
                share.lose(now)
            going = min(share.free(now), greed[number])
            share.spend(now, going)
            sent[-1] += going
    most = max(sum(sent[begin : begin + 60]) for begin in range(len(sent)))
    # A share is at least 1, however many there are.
    assert most <= max(limit, count) + sum(share.lease for share in shares)
