"""The database's clock, by which everything expires: nodes' own clocks may differ by seconds.

Times are microseconds since 1970. In a query `Now()` is the moment at which the statement runs; a WHERE that should use
an index takes `now()` instead, because the databases do not look up a value that changes from row to row.
"""

from typing import Any, Final

from django.db import connection
from django.db.models import BigIntegerField, Func

SECOND: Final = 1_000_000

_SQL: Final = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)",
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    "mysql": "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)",
}


class Now(Func):
    """The time as an expression."""

    output_field = BigIntegerField()
    arity = 0

    def as_sql(  # type: ignore[override] # the arguments of the base are never given
        self, compiler: Any, connection: Any, **_: Any
    ) -> Any:
        """The kind of database's own spelling."""
        return _SQL[connection.vendor], []


def now() -> int:
    """The time now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + _SQL[connection.vendor])
        (value,) = cursor.fetchone()
    return int(value)
