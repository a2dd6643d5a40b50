import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from ringtrue.agent.held_work import KEEP, HeldWork, Register
from ringtrue.agent.problems import Problem


@dataclass(slots=True, eq=False, kw_only=True)
class Errand(HeldWork):
    done: bool = False

    @property
    def over(self) -> bool:
        return self.done


class Held:
    """A register of errands and its clock."""

    def __init__(self, kept: int = 3) -> None:
        self.now = datetime(2026, 5, 6, tzinfo=UTC)
        self.register: Register[Errand] = Register("errand", kept=kept, clock=lambda: self.now)

    def add(self, name: str, *, done: bool = False) -> Errand:
        errand = Errand(id=name, tenant="acme", changed_at=self.now, done=done)
        self.register.add(errand)
        self.now += timedelta(seconds=1)
        return errand


def test_another_tenants_work_is_not_there() -> None:
    held = Held()
    errand = held.add("one")
    assert held.register.get("acme", "one") is errand
    for tenant, name in (("other", "one"), ("acme", "two")):
        with pytest.raises(Problem, match="no errand") as caught:
            held.register.get(tenant, name)
        assert caught.value.status == 404


async def test_who_waits_is_told_of_a_change_or_waits_in_vain() -> None:
    held = Held()
    errand = held.add("one")
    waiting = asyncio.ensure_future(held.register.wait(errand, 1, 30))
    await asyncio.sleep(0)
    assert not waiting.done()
    held.register.changed(errand)
    assert (await waiting).version == 2
    assert (await held.register.wait(errand, 2, 0.01)).version == 2
    errand.done = True
    assert (await held.register.wait(errand, 2, 30)).over


def test_what_is_over_is_forgotten_in_time_or_for_want_of_room() -> None:
    held = Held()
    held.add("first", done=True)
    held.add("going")
    held.add("second", done=True)
    assert held.register.full
    held.register.tidy()
    assert {errand.id for errand in held.register.all()} == {"going", "second"}
    held.now += KEEP
    held.register.tidy()
    held.register.tidy()
    assert [errand.id for errand in held.register.all()] == ["going"]
    assert len(held.register) == 1
