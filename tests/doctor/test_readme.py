"""README's table of what may be wrong: the doctor's part in each row, and the tests that make it happen."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

ROWS = {
    "no compiler": ["test_no_compiler"],
    "old Python": ["test_old_python"],
    "download fails, hub blocked": ["test_a_hub_that_can_not_be_reached"],
    "download cut, machine switched off": ["test_a_download_that_was_cut"],
    "a file arrived damaged": ["test_a_downloaded_file_that_was_damaged", "test_a_flipped_byte"],
    "disk too small": ["test_too_little_disk"],
    "memory too small": ["test_too_little_memory", "test_too_little_memory_for_a_prepared_model"],
    "model of another architecture": ["test_an_architecture_that_can_not_be_converted"],
    "slow answers": ["test_a_cpu_quota", "test_more_threads_than_cores", "test_an_engine_far_below_what_the_memory_allows"],
    "Chinese looks garbled": ["test_a_tokenizer_that_garbles_chinese"],
    "a port is taken": ["test_a_port_that_is_taken"],
    "`context_length_exceeded`": ["test_what_people_ran_into_on_a_whole_appliance"],
    "answer ends in mid-sentence": ["test_what_people_ran_into_on_a_whole_appliance"],
    "it repeats itself": ["test_answers_that_went_round_in_circles_and_limits"],
    "503 for a moment": ["test_an_api_that_is_loading"],
    "403 `host_not_allowed`": ["test_what_people_ran_into_on_a_whole_appliance"],
    "the login says to wait": ["test_logins_that_were_refused"],
    "429 `rate_limit_exceeded`": ["test_answers_that_went_round_in_circles_and_limits"],
    "a setting is wrong": ["test_a_setting_that_does_not_exist"],
}


def rows(readme: str, heading: str) -> list[str]:
    """The first cells of the table in that section."""
    section = (ROOT / readme).read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| (.+?) \|", section, re.MULTILINE)[1:]  # without the table's head


def test_every_row_is_found_by_the_doctor() -> None:
    assert rows("README.md", "When something is wrong") == list(ROWS)
    assert len(rows("README.zh-CN.md", "出问题时")) == len(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_the_tests_of_a_row_are_there(row: str) -> None:
    there = "".join(file.read_text() for file in (ROOT / "tests/doctor").glob("test_*.py"))
    for name in ROWS[row]:
        assert f"def {name}(" in there, name
