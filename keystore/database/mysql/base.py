"""Django's backend for MariaDB, under the watch."""

from typing import Any

from django.db.backends.mysql import base

from keystore.database.watch import of, shut


def _shut(connection: Any) -> None:
    shut(connection._sock.fileno())  # The driver has no other name for it.


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that can be cut off, also while it is made: `connect_timeout` is for TCP alone."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect."""
        watch = of(self.alias)
        watch.check()
        connection = super().get_new_connection({**conn_params, "defer_connect": True})
        watch.add(connection, _shut)
        connection.connect()
        return connection
