"""Statements that a session keeps planned."""

from typing import Any

import pytest
from django.db import DataError, connections, transaction

from fleet.kit.prepared import prepared
from fleet.kit.tenancy import scope
from tests.conftest import TEST

pytestmark = pytest.mark.usefixtures("database")
_KEPT = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT 6 / %%'"


def _kept() -> Any:
    with connections["default"].cursor() as cursor:
        cursor.execute(_KEPT)
        return cursor.fetchone()[0]


def test_a_statement_is_planned_once_a_session_and_works_on_after_a_fault() -> None:
    with scope(TEST):
        assert [prepared("SELECT 6 / %s::int", [2]) for _ in range(3)] == [[(3,)]] * 3
        assert _kept() == 1
        with pytest.raises(DataError, match="division by zero"), transaction.atomic():
            prepared("SELECT 6 / %s::int", [0])
        assert prepared("SELECT 6 / %s::int", [3]) == [(2,)]


def test_what_is_only_sent_often_is_not_kept() -> None:
    with scope(TEST), connections["default"].cursor() as cursor:
        for _ in range(12):
            cursor.execute("SELECT 6 / %s", [2])
        assert _kept() == 0
