"""How much memory a transfer may take, and what is refused because no transfer could keep to it."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.cas.limits import DEFAULT_MEMORY, LEAST_ROOM, TransferLimits

AIRFLOW = 110_000_000
PLENTY = 64 << 30


def test_where_there_is_plenty_the_default_applies():
    assert TransferLimits().memory_ceiling(AIRFLOW, PLENTY) == DEFAULT_MEMORY


def test_where_there_is_less_half_of_what_is_free_is_left_to_others():
    assert TransferLimits().memory_ceiling(AIRFLOW, 500_000_000) == AIRFLOW + 250_000_000


@pytest.mark.parametrize("available", [0, LEAST_ROOM])
def test_a_transfer_takes_no_less_than_it_needs(available):
    assert TransferLimits().memory_ceiling(AIRFLOW, available) == AIRFLOW + LEAST_ROOM


def test_a_process_that_is_large_already_gets_no_more_than_the_default():
    assert TransferLimits().memory_ceiling(2 * DEFAULT_MEMORY, PLENTY) == DEFAULT_MEMORY


def test_what_was_set_applies_whatever_is_free():
    assert TransferLimits(memory=700_000_000).memory_ceiling(AIRFLOW, 0) == 700_000_000


def test_too_little_is_refused_with_the_least_that_is_possible():
    least = AIRFLOW + LEAST_ROOM
    TransferLimits(memory=least).check_memory(AIRFLOW)
    with pytest.raises(XetInputError) as raised:
        TransferLimits(memory=least - 1).check_memory(AIRFLOW)
    assert str(raised.value).startswith("transfer_memory is too small: 310.0 MB; this task needs 310 MB.")


def test_without_a_setting_nothing_is_refused():
    TransferLimits().check_memory(PLENTY)
