"""Data for load tests is what clients would have made."""

import pytest
from django.core.management import CommandError, call_command

from kmip.attributes import Attributes
from kmip.enums import NameType, Operation
from kmip.payloads import GetRequest, LocateRequest
from kmip.structures import Name
from tests.authority import do, sealed  # noqa: F401 - a fixture

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
SIZES = {"objects": 7, "clients": 3, "grants": 5, "audit": 4}


def test_owner_and_clients_find_and_get_their_keys(capsys):
    from keystore.models import AuditRecord, Grant

    before = AuditRecord.objects.count()
    call_command("loadtestdata", owner="alice", prefix="some", **SIZES)
    assert "[########################################] 7/7" in capsys.readouterr().err
    assert AuditRecord.objects.count() == before + 4
    asked = Attributes()
    asked.name = [Name(name_value="some-000000003", name_type=NameType.UNINTERPRETED_TEXT_STRING)]
    (uid,) = do(Operation.LOCATE, LocateRequest(attributes=asked)).unique_identifier
    block = do(Operation.GET, GetRequest(unique_identifier=uid)).symmetric_key.key_block
    assert len(block.key_value.key_material) == 32
    assert len(do(Operation.LOCATE, LocateRequest()).unique_identifier) == 7
    grants = {(grant.object_id, grant.principal.removeprefix("user:")) for grant in Grant.objects.all()}
    assert len(grants) == 5
    for granted, client in grants:
        assert do(Operation.GET, GetRequest(unique_identifier=granted), user=client).unique_identifier == granted


def test_a_second_run_needs_another_prefix():
    call_command("loadtestdata", prefix="some", **SIZES)
    with pytest.raises(CommandError, match="another"):
        call_command("loadtestdata", prefix="some", **SIZES)
    call_command("loadtestdata", prefix="other", **SIZES)
