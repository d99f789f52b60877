"""Logins: how they begin, what they are known by, and everything that ends them."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.shared.secret import Secrets, digest
from services.ui import visits
from services.ui.visits import IDLE, LONGEST, Visits, identity


class House:
    """A file of passwords, the visits under it, and a clock."""

    def __init__(self, file: Path) -> None:
        self.file, self.now = file, 0.0
        self.write(anna="a", ben="b")
        self.passwords = Secrets(file)
        self.visits = Visits(self.passwords, lambda: self.now)

    def write(self, **passwords: str) -> None:
        self.file.write_text("".join(f"{name} {digest(password).hex()}\n" for name, password in passwords.items()))

    def lasts(self, token: str, *, act: bool = False) -> bool:
        return self.visits.find(token, act=act) is not None


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "passwords")


def test_a_visit_is_known_by_its_token_which_is_not_kept(house: House) -> None:
    anna, again, ben = (house.visits.begin(name) for name in ("anna", "anna", "ben"))
    assert len({anna, again, ben}) == 3 and min(map(len, (anna, again, ben))) >= 43
    found = house.visits.find(anna, act=True)
    assert found and found.person == "anna" and anna not in repr(vars(house.visits))
    assert not house.lasts("") and not house.lasts(anna + "x")
    house.visits.end(found)
    assert found.ended.is_set() and not house.lasts(anna) and house.lasts(again) and house.lasts(ben)


def test_doing_nothing_ends_it_and_so_does_a_week(house: House) -> None:
    idle, busy = house.visits.begin("anna"), house.visits.begin("anna")
    house.now += IDLE - 1
    assert house.lasts(idle) and house.lasts(busy, act=True), "looking does not count as doing"
    house.now += 2
    assert not house.lasts(idle) and house.lasts(busy)
    while house.now < LONGEST:
        assert house.lasts(busy, act=True)
        house.now += IDLE / 2
    house.now = LONGEST + 1
    assert not house.lasts(busy, act=True) and len(house.visits) == 0


@pytest.mark.parametrize("change", [{"ben": "b"}, {"anna": "another", "ben": "b"}])
def test_another_password_or_none_ends_all_visits_of_its_person(house: House, change: dict[str, str]) -> None:
    annas, ben = [house.visits.begin("anna") for _ in range(3)], house.visits.begin("ben")
    streams = [visit.ended for token in annas if (visit := house.visits.find(token, act=True))]
    device = house.visits.device("anna")
    assert len(streams) == 3 and house.visits.knows(device)
    house.write(**change)
    assert house.passwords.refresh()
    house.visits.sweep()
    assert all(ended.is_set() for ended in streams) and not any(map(house.lasts, annas)) and house.lasts(ben)
    assert not house.visits.knows(device)


def test_no_more_than_so_many_visits_of_a_person(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "MOST", 3)
    ben, tokens = house.visits.begin("ben"), []
    for _ in range(3):
        house.now += 1
        tokens.append(house.visits.begin("anna"))
    assert house.lasts(tokens[0], act=True)  # so the second is the one that was idle longest
    house.now += 1
    tokens.append(house.visits.begin("anna"))
    assert [house.lasts(token) for token in tokens] == [True, False, True, True] and house.lasts(ben)


def test_a_device_is_known_again_and_can_not_be_made_up(house: House) -> None:
    device = house.visits.device("ben")
    assert house.visits.knows(device) and house.visits.device("ben") != device
    assert Visits(house.passwords).knows(device), "after a restart too"
    mark, _, seal = device.partition(".")
    for wrong in ("", ".", mark, f"{mark}.", f"x{mark}.{seal}", f"{mark}.{seal[:-1]}", f"{mark}.é", "\ud800.\ud800"):
        assert not house.visits.knows(wrong), wrong


def test_a_person_has_an_identity_that_is_not_its_name() -> None:
    assert identity("anna") == identity("anna") != identity("ben")
    assert "anna" not in identity("anna") and len(identity("anna")) == 16
