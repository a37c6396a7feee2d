"""Statements of paths where the ORM's own work would cost more than the database's: made once for each kind of database
from the models, then run on the driver, in Django's connection and transaction."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, cast

from django.db import DEFAULT_DB_ALIAS, connection, connections, models

from keystore import pool, turns

Parameters = Sequence[Any]


class Statement:
    """SQL with a place for each parameter, compiled at first use."""

    def __init__(self, compile_: Callable[[], str]) -> None:
        self._compile = compile_
        self._sql: dict[str, str] = {}

    def sql(self, vendor: str) -> str:
        """The SQL for a kind of database."""
        sql = self._sql.get(vendor)
        if sql is None:
            sql = self._compile()
            if vendor == "sqlite":
                # Django would translate the placeholders at every execution.
                sql = sql.replace("%s", "?")
            self._sql[vendor] = sql
        return sql

    def first(self, parameters: Parameters, *, suffix: str = "") -> Sequence[Any] | None:
        """The first row of a query, or None; databases that lock rows get `suffix` after the SQL."""
        database = _here()
        if database.vendor == "sqlite":
            try:
                return cast(
                    "Sequence[Any] | None", _opened(database).execute(self.sql("sqlite"), parameters).fetchone()
                )
            except sqlite3.Error:
                with database.wrap_database_errors:
                    raise
        turns.leave()
        with database.cursor() as cursor:
            cursor.execute(self.sql(database.vendor) + suffix, parameters)
            return cast("Sequence[Any] | None", cursor.fetchone())

    def all(self, parameters: Parameters) -> list[Sequence[Any]]:
        """Every row of a query."""
        database = _here()
        if database.vendor == "sqlite":
            try:
                return cast("list[Sequence[Any]]", _opened(database).execute(self.sql("sqlite"), parameters).fetchall())
            except sqlite3.Error:
                with database.wrap_database_errors:
                    raise
        turns.leave()
        with database.cursor() as cursor:
            cursor.execute(self.sql(database.vendor), parameters)
            return cast("list[Sequence[Any]]", cursor.fetchall())

    def run(self, parameters: Parameters) -> int:
        """Change rows; how many."""
        turns.leave()
        database = _here()
        if database.vendor == "sqlite":
            return int(_lite(database, self.sql("sqlite"), parameters).rowcount)
        with database.cursor() as cursor:
            cursor.execute(self.sql(database.vendor), parameters)
            return int(cursor.rowcount)

    def run_many(self, rows: Sequence[Parameters]) -> None:
        """Change rows for each of several sets of parameters."""
        turns.leave()
        database = _here()
        if database.vendor == "sqlite":
            with database.wrap_database_errors:
                _opened(database).executemany(self.sql("sqlite"), rows)
            return
        with database.cursor() as cursor:
            cursor.executemany(self.sql(database.vendor), rows)


class Insert(Statement):
    """An INSERT of one row, or of some at once."""

    #: So many rows are inserted by one statement; databases take thousands of parameters.
    MOST: Final = 64

    def __init__(self, compile_: Callable[[], str]) -> None:
        super().__init__(compile_)
        self._several: dict[int, Insert] = {1: self}

    def run_many(self, rows: Sequence[Parameters]) -> None:
        """Insert several rows."""
        for start in range(0, len(rows), self.MOST):
            some = rows[start : start + self.MOST]
            count = len(some)
            several = self._several.get(count)
            if several is None:
                several = self._several[count] = Insert(partial(self._of, count))
            several.run(list(chain.from_iterable(some)))

    def _of(self, count: int) -> str:
        one = self._compile()
        return ", ".join([one, *[one.rpartition(" VALUES ")[2]] * (count - 1)])


def _here() -> Any:
    """Django's connection of this thread; `connection` would look it up again for each of its attributes."""
    return pool.lent() or connections[DEFAULT_DB_ALIAS]


def _opened(database: Any) -> Any:
    """SQLite's own connection."""
    if database.connection is None:
        database.ensure_connection()
    return database.connection


def _lite(database: Any, sql: str, parameters: Parameters) -> Any:
    """The cursor of a statement that changes rows."""
    try:
        return _opened(database).execute(sql, parameters)
    except sqlite3.Error:
        with database.wrap_database_errors:
            raise


def select(queryset: Callable[[], "models.QuerySet[Any, Any]"], parameters: int) -> Statement:
    """The SQL of a queryset with example values for its parameters, which come in the order of the SQL."""

    def compile_() -> str:
        sql, found = queryset().query.sql_with_params()
        if len(found) != parameters:
            raise AssertionError(f"{sql} takes {len(found)} parameters")
        return sql

    return Statement(compile_)


def _quoted(*names: str) -> list[str]:
    return [connection.ops.quote_name(name) for name in names]


def _column(model: type[models.Model], name: str) -> str:
    return _quoted(str(cast("models.Field[Any, Any]", model._meta.get_field(name)).column))[0]


def insert(model: type[models.Model], fields: Sequence[str]) -> Insert:
    """INSERT of the named fields."""

    def compile_() -> str:
        columns = ", ".join(_column(model, name) for name in fields)
        places = ", ".join(["%s"] * len(fields))
        return f"INSERT INTO {_quoted(model._meta.db_table)[0]} ({columns}) VALUES ({places})"  # noqa: S608 - names only

    return Insert(compile_)


def update(model: type[models.Model], fields: Sequence[str], where: Sequence[str]) -> Statement:
    """UPDATE of the named fields of the rows where others have given values; parameters in that order."""

    def compile_() -> str:
        changes = ", ".join(f"{_column(model, name)} = %s" for name in fields)
        conditions = " AND ".join(f"{_column(model, name)} = %s" for name in where)
        return f"UPDATE {_quoted(model._meta.db_table)[0]} SET {changes} WHERE {conditions}"  # noqa: S608 - names only

    return Statement(compile_)


def delete(model: type[models.Model], where: Sequence[str]) -> Statement:
    """DELETE of the rows where fields have given values; nothing that refers to them goes along."""

    def compile_() -> str:
        conditions = " AND ".join(f"{_column(model, name)} = %s" for name in where)
        return f"DELETE FROM {_quoted(model._meta.db_table)[0]} WHERE {conditions}"  # noqa: S608 - names only

    return Statement(compile_)
