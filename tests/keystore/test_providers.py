"""Every type of object in every format of Get, under each provider of the root key."""

import os

import pytest

from keystore import sealing, shares, store, token
from keystore.models import ManagedObject
from kmip.attributes import Attributes
from kmip.enums import KeyFormatType, ObjectType, Operation, RecommendedCurve
from kmip.objects import FIELDS
from kmip.payloads import GetRequest, RegisterRequest
from tests import softhsm
from tests.authority import do
from tests.keystore.test_at_rest import MAKERS
from tests.using import A, create, pair

F, O = KeyFormatType, ObjectType  # noqa: E741

#: What each kind of key is given as; None is the format of its own.
FORMATS = {
    "symmetric": (None, F.RAW, F.TRANSPARENT_SYMMETRIC_KEY),
    "RSA private": (None, F.PKCS_1, F.PKCS_8, F.TRANSPARENT_RSA_PRIVATE_KEY),
    "RSA public": (None, F.PKCS_1, F.X_509, F.TRANSPARENT_RSA_PUBLIC_KEY),
    "EC private": (None, F.ECPRIVATEKEY, F.PKCS_8, F.RAW, F.TRANSPARENT_EC_PRIVATE_KEY),
    "EC public": (None, F.X_509, F.RAW, F.TRANSPARENT_EC_PUBLIC_KEY),
}


def in_file(configure, hsm, folder):
    path = folder / "root.key"
    sealing.create_root_key(path)
    configure(**{"sealing.root_key_file": path})


def in_environment(configure, hsm, folder):
    provider = "keystore.sealing.environment_provider"
    configure(**{"sealing.provider": provider, "sealing.root_key": os.urandom(32).hex()})


def in_shares(configure, hsm, folder):
    texts = shares.split(os.urandom(32), shares=3, threshold=2)
    shares.give(shares.combine([shares.read(text) for text in texts[1:]]))
    configure(**{"sealing.provider": "keystore.shares.provider"})


def in_token(configure, hsm, folder):
    token.create_root_key(hsm())


PROVIDERS = {
    "file": in_file,
    "environment": in_environment,
    "shares": in_shares,
    "token": pytest.param(in_token, marks=softhsm.needed),
}


@pytest.fixture
def provider(request, configure, tmp_path):
    """A root key in one place or another, in a process that has read nothing yet."""
    hsm = request.getfixturevalue("hsm") if request.param is in_token else None
    request.param(configure, hsm, tmp_path)
    sealing.reset()
    store.rows.clear()
    yield
    shares._root = None
    sealing.reset()
    store.rows.clear()


def objects() -> dict[str, str]:
    """An object of every type, and keys of each kind: what it is -> identifier."""
    made = {"symmetric": create()}
    made["RSA private"], made["RSA public"] = pair(A.RSA, 2048)
    made["EC private"], made["EC public"] = pair(A.EC, curve=RecommendedCurve.P_256)
    for object_type, make in MAKERS.items():
        request = RegisterRequest(object_type=object_type, attributes=Attributes())
        setattr(request, FIELDS[object_type], make(os.urandom(32)))
        made[str(object_type)] = do(Operation.REGISTER, request).unique_identifier
    return made


def given(made: dict[str, str]) -> dict[tuple[str, KeyFormatType | None], object]:
    """Every object in every format."""
    found = {}
    for name, uid in made.items():
        for wanted in FORMATS.get(name, (None,)):
            answer = do(Operation.GET, GetRequest(unique_identifier=uid, key_format_type=wanted))
            found[name, wanted] = getattr(answer, FIELDS[answer.object_type])
    return found


@pytest.mark.django_db
@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS, indirect=True)
def test_every_type_is_had_in_every_format(provider):
    """The same before and after every key was forgotten and opened again."""
    made = objects()
    before = given(made)
    assert len(before) >= 20 and all(before.values())
    assert not ManagedObject.objects.filter(material=None).exists()
    root = shares._root
    sealing.reset()
    store.rows.clear()
    if root is not None:
        shares.give(root)
    assert given(made) == before
