import re
from ui.objects import address_of
def test_smoke(alice, make):
    uid = make(name="one")
    for i in range(3): make(name=f"k{i}")
    for path in ["/ui/","/ui/objects/","/ui/objects/?q=on","/ui/objects/?type=SymmetricKey&state=PreActive&algorithm=AES&length=256&expiry=7&group=a&tag=b&owner=alice","/ui/create/","/ui/create/symmetric-key/","/ui/create/key-pair/","/ui/create/secret/","/ui/create/opaque/","/ui/create/import/",address_of(uid),address_of(uid)+"do/activate/",address_of(uid)+"get/",address_of(uid)+"do/destroy/","/ui/password/"]:
        r = alice.get(path)
        print(path, r.status_code, len(r.content))
        if r.status_code != 200: print(r.content[:3000])
    r = alice.post("/ui/objects/", {"action":"revoke","index":"0","_selected_action":[uid]}); print(r.status_code, r.content.decode()[-2500:])
    r = alice.get("/ui/objects/export/csv/"); print(b"".join(r.streaming_content).decode()[:600])
    assert 0
