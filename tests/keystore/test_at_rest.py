"""Key material at rest: nothing of it is in any file, whatever the type of the object."""

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from keystore import engine, sealing
from keystore.authn import Peer
from kmip.attributes import Attributes
from kmip.enums import (
    CertificateRequestType,
    CertificateType,
    CryptographicAlgorithm,
    KeyFormatType,
    ObjectType,
    OpaqueDataType,
    Operation,
    SecretDataType,
    SplitKeyMethod,
)
from kmip.objects import (
    FIELDS,
    Certificate,
    CertificateRequest,
    KeyBlock,
    KeyValue,
    OpaqueObject,
    PGPKey,
    PrivateKey,
    PublicKey,
    SecretData,
    SplitKey,
    SymmetricKey,
)
from kmip.payloads import GetRequest, RegisterRequest
from tests.processes import environment, manage

ALICE = Peer("cli", user="alice")
PROGRAM = Path(__file__).resolve().parent.parent / "survival.py"


def block(material, algorithm=CryptographicAlgorithm.AES):
    return KeyBlock(
        key_format_type=KeyFormatType.RAW,
        key_value=KeyValue(key_material=material),
        cryptographic_algorithm=algorithm,
        cryptographic_length=len(material) * 8,
    )


MAKERS = {
    ObjectType.SYMMETRIC_KEY: lambda m: SymmetricKey(key_block=block(m)),
    ObjectType.SECRET_DATA: lambda m: SecretData(secret_data_type=SecretDataType.PASSWORD, key_block=block(m, None)),
    ObjectType.OPAQUE_OBJECT: lambda m: OpaqueObject(
        opaque_data_type=OpaqueDataType.of(0x80000001), opaque_data_value=m
    ),
    ObjectType.PRIVATE_KEY: lambda m: PrivateKey(key_block=block(m, CryptographicAlgorithm.EC)),
    ObjectType.PUBLIC_KEY: lambda m: PublicKey(key_block=block(m, CryptographicAlgorithm.EC)),
    ObjectType.SPLIT_KEY: lambda m: SplitKey(
        split_key_parts=3,
        key_part_identifier=1,
        split_key_threshold=2,
        split_key_method=SplitKeyMethod.XOR,
        key_block=block(m),
    ),
    ObjectType.PGP_KEY: lambda m: PGPKey(pgp_key_version=4, key_block=block(m, None)),
    ObjectType.CERTIFICATE_REQUEST: lambda m: CertificateRequest(
        certificate_request_type=CertificateRequestType.PKCS_10, certificate_request_value=m
    ),
    ObjectType.CERTIFICATE: lambda m: Certificate(certificate_type=CertificateType.PGP, certificate_value=m),
}


def everything_stored() -> bytes:
    """Every value of every table, as text and as bytes."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            for row in cursor.fetchall():
                found += [bytes(one) if isinstance(one, bytes | memoryview) else str(one).encode() for one in row]
    return b"\n".join(found)


@pytest.mark.django_db
@pytest.mark.parametrize("object_type", MAKERS, ids=str)
def test_the_database_does_not_hold_the_material_of_an_object(object_type, tmp_path, configure):
    """What was registered can be had again, and the database has it neither as bytes nor in hexadecimal."""
    path = tmp_path / "root.key"
    sealing.create_root_key(path)
    configure(**{"sealing.root_key_file": path})
    sealing.reset()
    canary = os.urandom(32)
    request = RegisterRequest(object_type=object_type, attributes=Attributes())
    setattr(request, FIELDS[object_type], MAKERS[object_type](canary))
    uid = engine.execute(Operation.REGISTER, request, ALICE).unique_identifier
    stored = everything_stored()
    for spelling in (canary, canary.hex().encode(), canary.hex().upper().encode()):
        assert spelling not in stored
    answer = engine.execute(Operation.GET, GetRequest(unique_identifier=uid), ALICE)
    given = getattr(answer, FIELDS[object_type])
    held = getattr(given, "key_block", None)
    value = (
        held.key_value.key_material
        if held is not None
        else next(
            getattr(given, name)
            for name in ("opaque_data_value", "certificate_value", "certificate_request_value")
            if hasattr(given, name)
        )
    )
    assert value == canary
    sealing.reset()


def spellings(material: bytes) -> list[bytes]:
    """What key material may look like in a file: its bytes, hexadecimal, Base64 at each offset, Python's own."""
    found = [material, material.hex().encode(), material.hex().upper().encode(), repr(material).encode()[2:-1]]
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + material)
        found.append(encoded[4 if offset else 0 : len(encoded) // 4 * 4 - 4])
    return found


def test_no_file_holds_key_material(tmp_path):
    """Neither the database, its write-ahead log, backups, logs at the lowest level nor temporary files, after use,
    failures, asynchronous answers, a destruction that can be undone, and kill -9."""
    (tmp_path / "temporary").mkdir()
    settings = {"TMPDIR": str(tmp_path / "temporary"), "KMS_LOGGING_LEVEL": "DEBUG", "KMS_DESTROY_DELAY": "3600"}
    assert manage(tmp_path, "migrate", "-v0", **settings).returncode == 0
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "canaries"],
        cwd=tmp_path, env=environment(tmp_path, settings), capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    made = {uid: bytes.fromhex(text) for uid, text in json.loads(done.stdout).items()}
    assert len(made) == len(MAKERS)
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    files["log"] = done.stderr
    assert files["kms.sqlite3-wal"] and files["all.kms"] and b"Traceback" in files["log"]
    everything = files["kms.sqlite3"] + files["kms.sqlite3-wal"]
    for uid, material in made.items():
        assert uid.encode() in everything
        for name, content in files.items():
            assert not any(one in content for one in spellings(material)), f"material of {uid} in {name}"
