"""The chain of audit records shows every kind of tampering, and names the record."""

import json
import time

import pytest
from django.db import connection, transaction

from keystore import audit, chain
from keystore.authn import Peer
from keystore.models import AuditCheckpoint, AuditHead, AuditRecord

pytestmark = pytest.mark.django_db


def records(count: int, operation: str = "Get") -> list[int]:
    """Write so many records and a checkpoint; their identifiers."""
    before = AuditRecord.objects.count()
    for number in range(count):
        audit.note(None, Peer("cli"), operation, detail=str(number))
    chain.checkpoint()
    return list(AuditRecord.objects.order_by("id").values_list("id", flat=True)[before:])


def first() -> tuple[int, str]:
    """The first problem."""
    _, problems = chain.verify()
    assert problems, "nothing was found"
    return problems[0].record, problems[0].what


def test_what_was_not_touched_verifies():
    """Records in checkpoints, and those that no checkpoint covers yet."""
    records(5)
    records(3)
    audit.note(None, Peer("cli"), "Get")
    assert chain.verify() == (9, [])
    assert chain.checkpoint() is not None
    assert chain.checkpoint() is None
    assert chain.verify() == (9, [])


def test_of_two_that_bind_the_same_records_one_does(monkeypatch):
    """Nothing is locked while they are read and hashed, so that others can write; each record is bound once."""
    audit.note(None, Peer("cli"), "Get")
    bound, seen = chain._bound, []

    def slow(secret):
        found = bound(secret)
        if not seen:
            seen.append(found)
            audit.note(None, Peer("cli"), "Locate")
            seen.append(chain.checkpoint())
            audit.note(None, Peer("cli"), "Create")
        return found

    monkeypatch.setattr(chain, "_bound", slow)
    made = chain.checkpoint()
    quicker = seen[1]
    assert (quicker.number, made.number) == (1, 2)
    assert (quicker.last + 1, made.first) == (made.first, made.last)
    assert chain.verify() == (3, [])


def test_a_checkpoint_that_is_made_meanwhile_is_no_problem(monkeypatch):
    """Verification reads long, and jobs go on; one that nothing has made is still named."""
    records(6)
    end = chain._end

    def later(*given):
        audit.note(None, Peer("cli"), "Get")
        assert chain.checkpoint() is not None
        return end(*given)

    monkeypatch.setattr(chain, "_end", later)
    assert chain.verify()[1] == []
    monkeypatch.setattr(chain, "_end", end)
    AuditCheckpoint.objects.filter(number=chain.AuditHead.objects.get().number).update(number=99)
    assert any("checkpoints after the last one" in problem.what for problem in chain.verify()[1])


@pytest.mark.parametrize("column, value", [("user", "mallory"), ("time", 1), ("result", "Failure"), ("namespace", "x")])
@pytest.mark.parametrize("sealed", [True, False])
def test_an_edit_names_the_record(column, value, sealed):
    """Whichever column was changed, in a checkpoint or before one."""
    ids = records(6)
    if not sealed:
        audit.note(None, Peer("cli"), "Get")
        ids = [AuditRecord.objects.latest("id").id] * 4
    AuditRecord.objects.filter(id=ids[3]).update(**{column: value})
    number, what = first()
    assert (number, "edited" in what) == (ids[3], True)


def test_an_edit_with_a_new_mac_of_another_record_is_named():
    """A MAC belongs to its record."""
    ids = records(4)
    other = AuditRecord.objects.get(id=ids[0])
    AuditRecord.objects.filter(id=ids[2]).update(mac=other.mac, user="mallory")
    assert first()[0] == ids[2]


def test_a_deleted_record_is_named():
    ids = records(6)
    AuditRecord.objects.filter(id=ids[2]).delete()
    assert first() == (ids[2], "was deleted")


def test_an_inserted_record_is_named():
    """A forged record, and a copy of a genuine one, at the end, before and after a checkpoint took it in."""
    ids = records(3)
    forged = AuditRecord.objects.get(id=ids[0])
    forged.pk, forged.user, forged.nonce = None, "mallory", 1
    forged.save(force_insert=True)
    assert first()[0] == forged.pk
    chain.checkpoint()
    assert first()[0] == forged.pk
    copy = AuditRecord.objects.get(id=ids[1])
    copy.pk = None
    copy.save(force_insert=True)
    chain.checkpoint()
    assert (copy.pk, "is a copy of another record") in {tuple(one) for one in chain.verify()[1]}


def test_a_record_inserted_where_one_was_missing_is_named():
    """An identifier that was given out but not used cannot be used later on."""
    ids = records(2)
    audit.note(None, Peer("cli"), "Get")
    gone = AuditRecord.objects.latest("id")
    gone.delete()
    audit.note(None, Peer("cli"), "Get")
    last = AuditRecord.objects.latest("id")
    if last.pk == gone.pk or last.pk == ids[-1] + 1:
        AuditRecord.objects.filter(pk=last.pk).delete()
        AuditRecord(pk=ids[-1] + 2, **{name: getattr(last, name) for name in (*audit.CONTENT, "mac")}).save()
    chain.checkpoint()
    chain._recent.gaps = []
    assert chain.verify()[1] == []
    forged = AuditRecord.objects.get(id=ids[0])
    forged.pk = ids[-1] + 1
    forged.save(force_insert=True)
    assert first()[0] == forged.pk


def test_a_record_that_was_committed_late_is_taken_in():
    """Identifiers are given out before commits: a gap may be filled for a while."""
    ids = records(1)
    audit.note(None, Peer("cli"), "Late")
    late = AuditRecord.objects.latest("id")
    late.delete()
    later = AuditRecord(pk=ids[0] + 5, **{name: getattr(late, name) for name in (*audit.CONTENT, "mac")})
    audit.note(None, Peer("cli"), "Get")
    other = AuditRecord.objects.latest("id")
    AuditRecord.objects.filter(pk=other.pk).update(id=ids[0] + 6)
    made = chain.checkpoint()
    assert made.gaps == [[ids[0] + 1, ids[0] + 5]]
    later.save(force_insert=True)
    made = chain.checkpoint()
    assert (made.late, made.last) == ([ids[0] + 5], ids[0] + 6)
    assert chain.verify() == (3, [])
    later.delete()
    assert first() == (ids[0] + 5, "was deleted")


def test_records_that_changed_places_are_named():
    ids = records(6)
    one, other = AuditRecord.objects.get(id=ids[1]), AuditRecord.objects.get(id=ids[4])
    AuditRecord.objects.filter(id__in=[one.id, other.id]).delete()
    one.id, other.id = other.id, one.id
    one.save(force_insert=True)
    other.save(force_insert=True)
    number, what = first()
    assert (number, what) == (ids[1], "is another record, moved here")


def test_a_chain_that_was_cut_off_is_named():
    """Records alone, with their checkpoints, and with the head set back as well."""
    ids = records(3)
    more = records(3)
    AuditRecord.objects.filter(id__gte=more[0]).delete()
    assert first() == (more[0], "was deleted")
    old = AuditCheckpoint.objects.order_by("number").first()
    AuditCheckpoint.objects.filter(number__gt=old.number).delete()
    number, what = first()
    assert (number, "cut off" in what) == (ids[-1] + 1, True)
    AuditHead.objects.update(number=old.number, mac=chain._mark(audit.key(), "head", old.number))
    number, what = first()  # An old copy of the database is whole in itself; the exported lines tell.
    assert (number, "cut off" in what) == (more[0], True)


def test_a_checkpoint_that_was_deleted_or_changed_is_named():
    records(2)
    middle = records(2)
    records(2)
    AuditCheckpoint.objects.filter(first__lte=middle[0], last__gte=middle[0]).delete()
    assert first()[0] == middle[0]
    AuditCheckpoint.objects.filter(number=1).update(leaves=b"x" * 32)
    assert first()[0] == 1


def test_pruning_leaves_a_chain_that_verifies():
    """And what is left is still guarded."""
    records(4)
    middle = time.time_ns() // 1000 + 1
    ids = records(4)
    AuditCheckpoint.objects.filter(number=2).update(time=middle + 10)
    one = AuditCheckpoint.objects.get(number=2)
    one.mac = chain._mac(audit.key(), one)
    one.save()
    chain.conf.current().audit.checkpoint_file.unlink()
    assert chain.prune(middle) == 4
    assert chain.verify() == (4, [])
    assert chain.prune(middle) == 0
    AuditRecord.objects.filter(id=ids[0]).delete()
    assert first() == (ids[0], "was deleted")


def test_whoever_deletes_records_cannot_call_it_pruning():
    ids = records(3)
    records(3)
    AuditRecord.objects.filter(id__in=ids).delete()
    AuditCheckpoint.objects.filter(number=1).update(pruned=b"0" * 32, leaves=b"")
    assert first()[0] == 1


def test_checkpoints_are_exported_as_they_are_made(checkpoint_file):
    records(2)
    records(1)
    lines = [json.loads(line) for line in checkpoint_file.read_text().splitlines()]
    assert [line["checkpoint"] for line in lines] == [1, 2]
    assert lines[1]["mac"] == bytes(AuditCheckpoint.objects.get(number=2).mac).hex()


def test_exports_are_json_lines_and_cef():
    audit.note(None, Peer("http", "10.0.0.7"), "Grant Access", uid="k|1", detail="a=b\\c")
    row = AuditRecord.objects.get()
    told = json.loads(chain.as_json(row))
    assert (told["operation"], told["object"], told["detail"], told["address"]) == (
        "Grant Access", "k|1", "a=b\\c", "10.0.0.7",
    )  # fmt: skip
    line = chain.as_cef(row)
    assert line.startswith("CEF:0|KMS|KMS|")
    assert "|Grant Access|Grant Access Success|3|" in line
    assert "msg=a\\=b\\\\c" in line and "src=10.0.0.7" in line


def test_a_change_and_its_record_are_one():
    """A record that is rolled back leaves no trace in the chain."""
    try:
        with transaction.atomic():
            audit.note(None, Peer("cli"), "Get")
            raise RuntimeError
    except RuntimeError:
        pass
    records(1)
    assert chain.verify() == (1, [])
    assert not connection.in_atomic_block or connection.savepoint_ids is not None
