"""The one clock of leases, due times and expiries: the database's, however wrong that of a process may be."""

from datetime import datetime

from django.db import connections

from fleet.kit.tenancy import DEFAULT


def database_now() -> datetime:
    """The moment by the database's clock (that of the statement, not of the transaction), within the open scope.

    What is compared with `now()` in SQL, or by another process, is made with this: a server whose clock is ten minutes
    off must neither end a lease at once nor hold work back.
    """
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (moment,) = cursor.fetchone()
    return moment  # type: ignore[no-any-return]
