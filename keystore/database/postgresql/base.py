"""Django's backend for PostgreSQL, under the watch."""

from typing import Any

import psycopg
from django.db.backends.postgresql import base

from keystore.database.watch import of, shut


def _shut(connection: "psycopg.Connection[Any]") -> None:
    try:
        descriptor = connection.pgconn.socket
    except psycopg.OperationalError:
        return  # It is closed.
    shut(descriptor)


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that can be cut off."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect; the time for that is `connect_timeout`."""
        watch = of(self.alias)
        watch.check()
        connection = super().get_new_connection(conn_params)
        watch.add(connection, _shut)
        return connection
