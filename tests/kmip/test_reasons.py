"""Result reasons against the error tables of the reference data, and as every version and operation spells them."""

import pytest

from kmip.enums import Operation, ResultReason
from kmip.reasons import EVERY, REASONS, given_by, reason_in
from kmip.versions import V1_4, V2_0, V2_1, VERSIONS
from tests.reference import REFERENCE, needs_reference, table

R = ResultReason
OPERATIONS = table("operations.json") if REFERENCE.is_dir() else {"operations": [], "general_errors_1_4": []}


def payloads(version):
    """The entries of every operation in a version; one that goes both ways has two."""
    for one in OPERATIONS["operations"]:
        found = one["payloads"].get(version, [])
        for entry in found if isinstance(found, list) else [found]:
            yield Operation.by_spelling()[one["name"]], entry


def tabled(version):
    """The reasons of the error tables by operation."""
    tables = {}
    for operation, entry in payloads(version):
        errors = entry.get("errors") or []
        rows = errors["rows"] if isinstance(errors, dict) else errors
        names = {one["name"] for row in rows for one in row.get("reasons", row.get("result_reasons", ()))}
        # Where 1.4 writes "Not Supported", the reference data names no reason.
        tables[operation] = tables.get(operation, set()) | {R.by_spelling()[name] for name in names if name}
    return tables


@needs_reference
def test_the_tables_of_2_1_are_transcribed():
    tables = {operation: reasons for operation, reasons in tabled("2.1").items() if reasons}
    assert {operation: reasons - EVERY for operation, reasons in tables.items()} == REASONS
    assert set.intersection(*tables.values()) == EVERY - {R.INVALID_FIELD}


#: Facts of which 1.4 has no row.
NO_ROW = {
    (Operation.ENCRYPT, R.MISSING_INITIALIZATION_VECTOR),
    (Operation.DECRYPT, R.MISSING_INITIALIZATION_VECTOR),
    (Operation.EXPORT, R.KEY_VALUE_NOT_PRESENT),
    (Operation.EXPORT, R.WRAPPING_OBJECT_ARCHIVED),
    (Operation.VALIDATE, R.OBJECT_NOT_FOUND),
    # It has one, Illegal Operation; its enumeration has the very reason.
    (Operation.GET, R.KEY_VALUE_NOT_PRESENT),
}
#: What 1.4 says of messages and of all operations (11.1).
GENERAL_1_4 = {R.INVALID_MESSAGE, R.INVALID_FIELD, R.PERMISSION_DENIED, R.RESPONSE_TOO_LARGE, R.FEATURE_NOT_SUPPORTED,
               R.OPERATION_NOT_SUPPORTED, R.ATTESTATION_REQUIRED, R.ATTESTATION_FAILED}  # fmt: skip


@needs_reference
def test_what_2_1_has_in_a_table_1_4_has_in_its_own_spelling():
    older = tabled("1.4")
    missing = {
        (operation, reason)
        for operation, reasons in REASONS.items()
        for reason in reasons
        if older.get(operation)
        and reason_in(reason, V1_4, operation) not in older[operation] | GENERAL_1_4
    }  # fmt: skip
    assert missing == NO_ROW


@pytest.mark.parametrize("operation", Operation, ids=lambda one: one.name.lower())
def test_no_version_hears_a_reason_that_it_lacks_nor_2_x_one_that_the_operation_does_not_give(operation):
    for version in VERSIONS:
        for reason in R:
            spelled = reason_in(reason, version, operation)
            assert spelled.since <= version
            assert version < V2_0 or spelled in given_by(operation), (reason, spelled)
            assert spelled == reason or reason.since > version or reason not in given_by(operation)


NEAREST = {
    "an object that is not there": (Operation.ADJUST_ATTRIBUTE, R.OBJECT_NOT_FOUND, R.ITEM_NOT_FOUND),
    "a part that is not there": (Operation.CREATE_SPLIT_KEY, R.OBJECT_NOT_FOUND, R.ITEM_NOT_FOUND),
    "an issuer that is not there": (Operation.CERTIFY, R.OBJECT_NOT_FOUND, R.ITEM_NOT_FOUND),
    "a value": (Operation.MODIFY_ATTRIBUTE, R.INVALID_ATTRIBUTE_VALUE, R.INVALID_FIELD),
    "a state": (Operation.CERTIFY, R.WRONG_KEY_LIFECYCLE_STATE, R.PERMISSION_DENIED),
    "a wrapping key": (Operation.IMPORT, R.WRAPPING_OBJECT_NOT_FOUND, R.INVALID_FIELD),
    "a password": (Operation.GET, R.BAD_PASSWORD, R.INVALID_FIELD),
    "as Get is told": (Operation.EXPORT, R.SENSITIVE, R.SENSITIVE),
    "in no table": (Operation.ENCRYPT, R.OBJECT_DESTROYED, R.OBJECT_DESTROYED),
}


@pytest.mark.parametrize("operation, reason, spelled", NEAREST.values(), ids=NEAREST)
def test_what_is_not_in_the_table_of_an_operation_goes_out_as_the_nearest(operation, reason, spelled):
    assert reason_in(reason, V2_1, operation) == spelled
