from __future__ import annotations

import pytest

from airflow_provider_xethub.xet import message_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (67_108_864, "67.1 MB"), (3.2e9, "3.2 GB"), (5e15, "5000.0 TB")],
)
def test_sizes_are_said_for_people(count, text):
    assert message_text.size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (89, "89 s"), (900, "15 min"), (9000, "2.5 h")])
def test_durations_are_said_for_people(seconds, text):
    assert message_text.duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files")])
def test_a_noun_agrees_with_its_number(number, text):
    assert message_text.counted(number, "file") == text


def test_a_list_that_is_too_long_ends_with_the_number_of_the_others():
    assert message_text.shortened(["a", "b"], 2) == "a, b"
    assert message_text.shortened(["a", "b", "c", "d"], 2, "; ") == "a; b and 2 more"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(28, "No space left on device"), "no space left on device"),
        (OSError("I/O error: No such file or directory (os error 2)"), "no such file or directory (os error 2)"),
        (OSError("Cut off"), "cut off"),
    ],
)
def test_the_reason_of_an_error_of_the_operating_system_is_short(error, text):
    assert message_text.os_reason(error) == text


def test_the_repository_of_a_message_has_a_short_commit():
    commit = "0123456789abcdef0123456789abcdef01234567"
    found = message_text.repo_in(f"the download of 1 file from hf://datasets/acme/m@{commit}")
    assert found == "hf://datasets/acme/m@0123456789ab"
    assert message_text.repo_in("the download of 1 file from hf://acme/m@main") == "hf://acme/m@main"
    assert message_text.repo_in("the check of a license") == "the check of a license"
