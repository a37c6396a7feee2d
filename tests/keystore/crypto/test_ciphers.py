"""Ciphers: defaults, IVs, counters, paddings, tags, streams, and the reason of every refusal."""

# ruff: noqa: E501 - a case is a line

import tracemalloc

import pytest

from keystore.crypto import algorithms, ciphers, keys
from keystore.crypto.algorithms import CFB8, GCM_SIV, ISO_9797_1_METHOD_2, ML_KEM_768, SIV, A, B, C, H, P
from keystore.crypto.policy import DEFAULT, FIPS_140_3, PERMISSIVE
from kmip.enums import MaskGenerator, ResultReason
from kmip.errors import KMIPError
from kmip.structures import CryptographicParameters

R = ResultReason
KEY, IV = bytes(range(16)), bytes(range(16, 32))
TEXT = b"thirty-one bytes of plain text."


def given(**fields):
    return CryptographicParameters(**fields)


def refused(reason, function, *arguments, **named):
    with pytest.raises(KMIPError) as caught:
        function(*arguments, **named)
    assert caught.value.reason == reason
    return caught.value


def round_trip(algorithm, key, parameters, data, **named):
    done = ciphers.encrypt(algorithm, key, parameters, data, **named)
    named["iv"] = done.iv or named.get("iv")
    return ciphers.decrypt(algorithm, key, parameters, done.data, tag=done.tag, **named)


def test_without_parameters_aes_is_gcm_with_a_fresh_iv():
    """The documented default: a random IV of 12 bytes, returned, and a tag of 16."""
    first, second = (ciphers.encrypt(A.AES, KEY, None, TEXT) for _ in "ab")
    assert (len(first.data), len(first.iv), len(first.tag)) == (len(TEXT), 12, 16)
    assert first.iv != second.iv
    assert ciphers.decrypt(A.AES, KEY, None, first.data, iv=first.iv, tag=first.tag) == TEXT


def test_without_parameters_other_block_ciphers_are_cbc_with_pkcs5():
    """A legacy cipher, under the policy that lists it."""
    done = ciphers.encrypt(A.DES3, bytes(range(24)), None, TEXT, policy=PERMISSIVE)
    assert (len(done.data), len(done.iv), done.tag) == (32, 8, None)
    assert ciphers.decrypt(A.DES3, bytes(range(24)), None, done.data, iv=done.iv, policy=PERMISSIVE) == TEXT


def test_a_padding_without_a_mode_means_cbc():
    """GCM, the default mode, could not use it."""
    done = ciphers.encrypt(A.AES, KEY, given(padding_method=P.PKCS5), TEXT)
    assert (
        ciphers.decrypt(A.AES, KEY, given(block_cipher_mode=B.CBC, padding_method=P.PKCS5), done.data, iv=done.iv)
        == TEXT
    )


def test_an_iv_that_is_given_is_not_returned():
    """Only a drawn IV is news to the client (2.1, 6.1.17)."""
    parameters = given(block_cipher_mode=B.CBC, padding_method=P.PKCS5, random_iv=True)
    assert ciphers.encrypt(A.AES, KEY, parameters, TEXT, iv=IV).iv is None
    assert len(ciphers.encrypt(A.AES, KEY, parameters, TEXT).iv) == 16


def test_a_random_iv_has_the_length_asked_for():
    """IV Length is in bits (2.1, 4.16)."""
    parameters = given(block_cipher_mode=B.GCM, random_iv=True, iv_length=128)
    assert len(ciphers.encrypt(A.AES, KEY, parameters, TEXT).iv) == 16


def test_a_fixed_field_is_completed_with_a_drawn_invocation_field():
    """SP 800-38D, 8.2: the client's four bytes stay in front."""
    parameters = given(block_cipher_mode=B.GCM, random_iv=True, fixed_field_length=32, invocation_field_length=64)
    done = ciphers.encrypt(A.AES, KEY, parameters, TEXT, iv=b"host")
    assert (done.iv[:4], len(done.iv)) == (b"host", 12)
    assert ciphers.decrypt(A.AES, KEY, given(block_cipher_mode=B.GCM), done.data, iv=done.iv, tag=done.tag) == TEXT


DRAWN = {
    "nothing said": {},
    "in all": {"iv_length": 128},
    "by fields": {"fixed_field_length": 32, "invocation_field_length": 96},
    "by one field": {"invocation_field_length": 64},
    "both": {"iv_length": 96, "fixed_field_length": 32, "invocation_field_length": 96},
}


@pytest.mark.parametrize("said", DRAWN.values(), ids=DRAWN)
def test_how_many_bytes_are_drawn_is_known_beforehand(said):
    """Whoever keeps IV and data in one needs to know where the data begins."""
    parameters = given(block_cipher_mode=B.GCM, random_iv=True, **said)
    length = len(ciphers.encrypt(A.AES, KEY, parameters, TEXT).iv)
    assert ciphers.drawn(A.AES, KEY, parameters) == length


def test_a_short_iv_of_ctr_is_a_nonce_before_the_counter():
    """RFC 3686: four bytes, eight bytes and a counter from 1 make the first block."""
    nonce = bytes(12)
    parameters = given(block_cipher_mode=B.CTR, initial_counter_value=1, counter_length=32)
    whole = ciphers.encrypt(A.AES, KEY, given(block_cipher_mode=B.CTR), TEXT, iv=nonce + (1).to_bytes(4)).data
    assert ciphers.encrypt(A.AES, KEY, parameters, TEXT, iv=nonce).data == whole
    assert ciphers.encrypt(A.AES, KEY, parameters, TEXT, iv=nonce + b"\xff" * 4).data == whole
    drawn = ciphers.encrypt(A.AES, KEY, given(block_cipher_mode=B.CTR, random_iv=True, counter_length=32), TEXT)
    assert (len(drawn.iv), drawn.iv[-4:]) == (16, bytes(4))
    assert ciphers.decrypt(A.AES, KEY, given(block_cipher_mode=B.CTR), drawn.data, iv=drawn.iv) == TEXT


def test_a_counter_never_runs_into_the_nonce():
    """One byte of counter at its last value leaves room for one block."""
    parameters = given(block_cipher_mode=B.CTR, counter_length=8, initial_counter_value=255)
    assert len(ciphers.encrypt(A.AES, KEY, parameters, bytes(16), iv=IV).data) == 16
    refused(R.INVALID_FIELD, ciphers.encrypt, A.AES, KEY, parameters, bytes(17), iv=IV)
    stream = ciphers.encryptor(A.AES, KEY, parameters, iv=IV)
    stream.update(bytes(16))
    refused(R.INVALID_FIELD, stream.update, b"x")


PADDED = {
    P.PKCS5: "0e" * 14,
    P.ANSI_X9_23: "00" * 13 + "0e",
    ISO_9797_1_METHOD_2: "80" + "00" * 13,
    P.ZEROS: "00" * 14,
}


@pytest.mark.parametrize(("method", "tail"), PADDED.items(), ids=lambda each: str(each))
def test_a_padding_fills_the_block_as_its_standard_says(method, tail):
    """Two bytes of data in a block of sixteen."""
    cipher = ciphers.encrypt(A.AES, KEY, given(block_cipher_mode=B.ECB, padding_method=method), b"ab").data
    plain = ciphers.decrypt(A.AES, KEY, given(block_cipher_mode=B.ECB), cipher)
    assert plain.hex() == b"ab".hex() + tail


@pytest.mark.parametrize("method", [*PADDED, P.ISO_10126], ids=str)
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 32])
def test_what_is_padded_comes_back(method, size):
    """At every distance from the end of a block; whole and in single bytes."""
    data, parameters = b"x" * size, given(block_cipher_mode=B.CBC, padding_method=method)
    cipher = ciphers.encrypt(A.AES, KEY, parameters, data, iv=IV).data
    assert ciphers.decrypt(A.AES, KEY, parameters, cipher, iv=IV) == data
    stream = ciphers.decryptor(A.AES, KEY, parameters, iv=IV)
    assert b"".join(stream.update(cipher[at : at + 1]) for at in range(len(cipher))) + stream.finalize() == data


@pytest.mark.parametrize(
    ("method", "block"),
    [
        (P.PKCS5, "00" * 16),
        (P.PKCS5, "11" * 16),
        (P.PKCS5, "00" * 14 + "0102"),
        (P.ANSI_X9_23, "01" * 15 + "05"),
        (P.ISO_10126, "00" * 16),
        (P.ISO_10126, "00" * 15 + "11"),
        (ISO_9797_1_METHOD_2, "00" * 16),
        (ISO_9797_1_METHOD_2, "00" * 15 + "7f"),
    ],
    ids=lambda each: str(each),
)
def test_a_wrong_padding_fails_without_saying_why(method, block):
    """One reason and one message, whatever the defect."""
    cipher = ciphers.encrypt(A.AES, KEY, given(block_cipher_mode=B.ECB), bytes.fromhex(block)).data
    parameters = given(block_cipher_mode=B.ECB, padding_method=method)
    error = refused(R.CRYPTOGRAPHIC_FAILURE, ciphers.decrypt, A.AES, KEY, parameters, cipher)
    assert error.message == "the data cannot be decrypted"
    error = refused(R.CRYPTOGRAPHIC_FAILURE, ciphers.decrypt, A.AES, KEY, parameters, cipher[:-1])
    assert error.message == "the data cannot be decrypted"


REFUSED = {
    "no padding and a broken block": (A.AES, KEY, {"block_cipher_mode": B.CBC}, b"x", {"iv": IV}, R.INVALID_FIELD),
    "an IV of the wrong length": (A.AES, KEY, {"block_cipher_mode": B.CBC}, bytes(16), {"iv": b"short"}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "a GCM IV too short": (A.AES, KEY, {"block_cipher_mode": B.GCM}, b"x", {"iv": b"x"}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "padding in GCM": (A.AES, KEY, {"block_cipher_mode": B.GCM, "padding_method": P.PKCS5}, b"x", {}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "an RSA padding in CBC": (A.AES, KEY, {"block_cipher_mode": B.CBC, "padding_method": P.OAEP}, b"x", {}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "a tag of one byte": (A.AES, KEY, {"block_cipher_mode": B.GCM, "tag_length": 1}, b"x", {}, R.GENERAL_FAILURE),
    "a tag of 32 bytes": (A.AES, KEY, {"block_cipher_mode": B.GCM, "tag_length": 32}, b"x", {}, R.GENERAL_FAILURE),
    "a negative tag": (A.AES, KEY, {"block_cipher_mode": B.GCM, "tag_length": -1}, b"x", {}, R.GENERAL_FAILURE),
    "a key that does not fit": (A.AES, b"x" * 11, {"block_cipher_mode": B.CBC}, bytes(16), {}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "half a key for XTS": (A.AES, KEY, {"block_cipher_mode": B.XTS}, bytes(16), {}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "XTS of less than a block": (A.AES, KEY + IV, {"block_cipher_mode": B.XTS}, b"x", {}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "additional data in CBC": (A.AES, KEY, {"block_cipher_mode": B.CBC}, bytes(16), {"aad": b"x"}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "a MAC as a cipher": (A.AES, KEY, {"block_cipher_mode": B.CMAC}, b"x", {}, R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
    "a mode that the cipher lacks": (A.CAMELLIA, KEY, {"block_cipher_mode": B.GCM}, b"x", {}, R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
    "a mode that nobody has": (A.AES, KEY, {"block_cipher_mode": B.PCBC}, b"x", {}, R.PERMISSION_DENIED),
    "a cipher that is only a key": (A.SKIPJACK, b"x" * 10, {}, b"x", {}, R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
    "a keyed hash as a cipher": (A.HMAC_SHA256, KEY, {}, b"x", {}, R.INVALID_FIELD),
    "a mode for a stream cipher": (A.CHACHA20, KEY + IV, {"block_cipher_mode": B.CTR}, b"x", {}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "a ChaCha20 nonce of no length": (A.CHACHA20, KEY + IV, {}, b"x", {"iv": b"x" * 9}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "a counter beyond its length": (A.AES, KEY, {"block_cipher_mode": B.CTR, "counter_length": 8, "initial_counter_value": 256}, b"x", {"iv": IV}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "a counter without a length": (A.AES, KEY, {"block_cipher_mode": B.CTR, "initial_counter_value": 1}, b"x", {"iv": IV}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "a negative IV length": (A.AES, KEY, {"block_cipher_mode": B.GCM, "iv_length": -96}, b"x", {}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
    "a key wrap of seven bytes under RFC 3394 and 5649": (A.AES, b"x" * 15, {"block_cipher_mode": B.NISTKEYWRAP}, b"1234567", {}, R.BAD_CRYPTOGRAPHIC_PARAMETERS),
}  # fmt: skip


@pytest.mark.parametrize(("algorithm", "key", "fields", "data", "named", "reason"), REFUSED.values(), ids=REFUSED)
def test_parameters_that_cannot_be_met_are_refused(algorithm, key, fields, data, named, reason):
    """With the reason of the specification, one-shot and as a stream, and without the key in the message."""
    error = refused(reason, ciphers.encrypt, algorithm, key, given(**fields), data, policy=PERMISSIVE, **named)
    assert key.hex() not in error.message
    with pytest.raises(KMIPError) as caught:
        stream = ciphers.encryptor(algorithm, key, given(**fields), policy=PERMISSIVE, **named)
        stream.update(data)
        stream.finalize()
    assert caught.value.reason == reason


@pytest.mark.parametrize("mode", [B.CBC, B.CTR, B.GCM, B.XTS, GCM_SIV], ids=str)
def test_a_decryption_without_its_iv_is_refused(mode):
    """The reason is that of the OASIS cases."""
    key = KEY + IV
    refused(R.INVALID_MESSAGE, ciphers.decrypt, A.AES, key, given(block_cipher_mode=mode), bytes(32))
    refused(R.INVALID_MESSAGE, ciphers.decrypt, A.CHACHA20, key, None, bytes(32))


def test_siv_without_a_nonce_is_deterministic():
    """RFC 5297: the same data gives the same bytes, and a nonce changes that."""
    key, parameters = KEY + IV, given(block_cipher_mode=SIV)
    first, second = (ciphers.encrypt(A.AES, key, parameters, TEXT, aad=b"head") for _ in "ab")
    assert first == second
    assert first.iv is None
    assert ciphers.decrypt(A.AES, key, parameters, first.data, tag=first.tag, aad=b"head") == TEXT
    drawn = given(block_cipher_mode=SIV, random_iv=True)
    assert ciphers.encrypt(A.AES, key, drawn, TEXT).data != ciphers.encrypt(A.AES, key, drawn, TEXT).data
    assert round_trip(A.AES, key, drawn, TEXT) == TEXT


def test_a_short_tag_is_the_beginning_of_the_long_one():
    """GCM and ChaCha20-Poly1305 take tags of 12 to 16 bytes, both ways."""
    for algorithm, key, mode in ((A.AES, KEY, B.GCM), (A.CHACHA20POLY1305, KEY + IV, B.AEAD)):
        full = ciphers.encrypt(algorithm, key, given(block_cipher_mode=mode), TEXT, iv=IV[:12])
        for length in range(12, 17):
            parameters = given(block_cipher_mode=mode, tag_length=length)
            done = ciphers.encrypt(algorithm, key, parameters, TEXT, iv=IV[:12])
            assert (done.data, done.tag) == (full.data, full.tag[:length])
            opened = ciphers.decrypt(algorithm, key, parameters, done.data + done.tag, iv=IV[:12])
            assert opened == TEXT
            wrong = done.tag[:-1] + bytes([done.tag[-1] ^ 1])
            refused(
                R.CRYPTOGRAPHIC_FAILURE, ciphers.decrypt, algorithm, key, parameters, done.data, iv=IV[:12], tag=wrong
            )
        short = given(block_cipher_mode=mode, tag_length=16)
        refused(R.CRYPTOGRAPHIC_FAILURE, ciphers.decrypt, algorithm, key, short, TEXT, iv=IV[:12], tag=full.tag[:12])
        refused(R.CRYPTOGRAPHIC_FAILURE, ciphers.decrypt, algorithm, key, short, b"short", iv=IV[:12])


def test_nist_key_wrap_pads_what_rfc_3394_cannot_hold():
    """KW for multiples of eight bytes from sixteen, KWP for the rest, both read."""
    parameters = given(block_cipher_mode=B.NISTKEYWRAP)
    for size in (1, 8, 15, 16, 17, 24, 1000):
        data = bytes(range(256))[:size] if size < 256 else bytes(size)
        assert ciphers.decrypt(A.AES, KEY, parameters, ciphers.encrypt(A.AES, KEY, parameters, data).data) == data
    padded = ciphers.encrypt(A.AES, KEY, given(block_cipher_mode=B.AESKEYWRAPPADDING), KEY).data
    assert ciphers.decrypt(A.AES, KEY, parameters, padded) == KEY


def test_chacha20_takes_its_three_kinds_of_nonce():
    """Eight bytes, twelve, or sixteen with the counter in front; the drawn one has twelve."""
    key = KEY + IV
    eight = ciphers.encrypt(A.CHACHA20, key, None, TEXT, iv=IV[:8]).data
    assert ciphers.encrypt(A.CHACHA20, key, None, TEXT, iv=bytes(8) + IV[:8]).data == eight
    assert len(ciphers.encrypt(A.CHACHA20, key, None, TEXT).iv) == 12
    later = ciphers.encrypt(A.CHACHA20, key, given(initial_counter_value=1), TEXT, iv=IV[:8]).data
    assert ciphers.encrypt(A.CHACHA20, key, None, bytes(64) + TEXT, iv=IV[:8]).data[64:] == later


@pytest.mark.parametrize(("nonce", "last"), [(IV[:12], 2**32 - 1), (IV[:8], 2**64 - 1)], ids=["12", "8"])
def test_chacha20_ends_where_its_counter_does(nonce, last):
    """One block is left, whole or in parts; what came behind it would be the key stream of another nonce."""
    key, parameters = KEY + IV, given(initial_counter_value=last)
    assert len(ciphers.encrypt(A.CHACHA20, key, parameters, bytes(64), iv=nonce).data) == 64
    for call in (ciphers.encrypt, ciphers.decrypt):
        with pytest.raises(KMIPError) as caught:
            call(A.CHACHA20, key, parameters, bytes(65), iv=nonce)
        assert caught.value.reason == ResultReason.INVALID_FIELD
    stream = ciphers.encryptor(A.CHACHA20, key, parameters, iv=nonce)
    stream.update(bytes(64))
    with pytest.raises(KMIPError, match="counter"):
        stream.update(b"x")


STREAMED = [B.ECB, B.CBC, B.CTR, B.CFB, B.OFB, B.GCM]


@pytest.mark.parametrize("mode", STREAMED, ids=str)
def test_a_stream_holds_no_more_than_its_parts(mode):
    """Sixteen megabytes pass through without being kept."""
    part = bytes(1 << 20)
    stream = ciphers.encryptor(A.AES, KEY, given(block_cipher_mode=mode), iv=IV)
    stream.update(part)
    tracemalloc.start()
    for _ in range(15):
        stream.update(part)
    stream.finalize()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(part)


@pytest.mark.parametrize("mode", [B.CCM, B.XTS, GCM_SIV, SIV, algorithms.OCB], ids=str)
def test_what_needs_all_data_at_once_is_collected_up_to_a_limit(mode, monkeypatch):
    """A stream of such a mode gives the one-shot result, and refuses more than it may keep."""
    key, parameters = KEY + IV, given(block_cipher_mode=mode)
    if mode == SIV:
        parameters.random_iv = True
    stream = ciphers.encryptor(A.AES, key, parameters)
    assert stream.update(TEXT) == b""
    out = stream.finalize()
    assert ciphers.decrypt(A.AES, key, parameters, out, iv=stream.iv, tag=stream.tag) == TEXT
    opener = ciphers.decryptor(A.AES, key, parameters, iv=stream.iv, tag=stream.tag)
    opener.update(out)
    assert opener.finalize() == TEXT
    monkeypatch.setattr(ciphers, "COLLECTED", 100)
    stream = ciphers.encryptor(A.AES, key, parameters)
    stream.update(bytes(100))
    refused(R.INVALID_FIELD, stream.update, b"x")


def test_a_stream_that_ends_in_half_a_block_is_refused():
    """Without a padding, encryption says what is missing; decryption is a cryptographic failure."""
    stream = ciphers.encryptor(A.AES, KEY, given(block_cipher_mode=B.CBC), iv=IV)
    stream.update(b"x")
    refused(R.INVALID_FIELD, stream.finalize)
    stream = ciphers.decryptor(A.AES, KEY, given(block_cipher_mode=B.CBC), iv=IV)
    stream.update(b"x")
    refused(R.CRYPTOGRAPHIC_FAILURE, stream.finalize)


# ---------------------------------------------------------------------------------------------------------------------
# Key pairs


@pytest.fixture(scope="module")
def rsa():
    pair = keys.generate_pair(A.RSA, 2048)
    return keys.load_private(pair.private.data)


def test_rsa_without_parameters_is_oaep_with_sha_256(rsa):
    """The documented default."""
    cipher = ciphers.encrypt(A.RSA, rsa.public_key(), None, TEXT).data
    explicit = given(
        padding_method=P.OAEP, hashing_algorithm=H.SHA_256, mask_generator=MaskGenerator.MGF1,
        mask_generator_hashing_algorithm=H.SHA_256,
    )  # fmt: skip
    assert ciphers.decrypt(A.RSA, rsa, explicit, cipher) == TEXT
    assert ciphers.decrypt(A.RSA, rsa, None, cipher) == TEXT


def test_rsa_takes_parts_too(rsa):
    """A stream under a key pair collects its data."""
    stream = ciphers.encryptor(A.RSA, rsa.public_key(), None)
    stream.update(TEXT[:5])
    stream.update(TEXT[5:])
    opener = ciphers.decryptor(A.RSA, rsa, None)
    opener.update(stream.finalize())
    assert opener.finalize() == TEXT


@pytest.mark.parametrize(
    ("fields", "data", "reason"),
    [
        ({"padding_method": P.NONE}, b"x", R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
        ({"padding_method": P.PSS}, b"x", R.PERMISSION_DENIED),
        ({"padding_method": P.OAEP, "hashing_algorithm": H.SHA3_256}, b"x", R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
        ({"padding_method": P.OAEP, "mask_generator": MaskGenerator(7)}, b"x", R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS),
        ({}, bytes(300), R.INVALID_FIELD),
    ],
    ids=str,
)
def test_rsa_encryption_that_is_not_possible_is_refused(rsa, fields, data, reason):
    """Paddings that RSA does not have, a hash that the library does not combine, too much data."""
    refused(reason, ciphers.encrypt, A.RSA, rsa.public_key(), given(**fields), data)


def test_rsa_aes_key_wrap_takes_any_length(rsa):
    """CKM_RSA_AES_KEY_WRAP: a private key of 1,200 bytes fits; a changed one does not open."""
    data = keys.generate_pair(A.RSA, 2048).private.data
    wrapped = ciphers.rsa_aes_wrap(rsa.public_key(), data)
    assert ciphers.rsa_aes_unwrap(rsa, wrapped) == data
    for broken in (wrapped[:-1] + bytes([wrapped[-1] ^ 1]), wrapped[:100], b""):
        refused(R.CRYPTOGRAPHIC_FAILURE, ciphers.rsa_aes_unwrap, rsa, broken)


ELLIPTIC = [C.P_256, C.P_521, C.SECP256K1, C.BRAINPOOLP384R1, C.CURVE25519, C.CURVE448]


@pytest.mark.parametrize("curve", ELLIPTIC, ids=str)
def test_an_elliptic_curve_key_encrypts_with_ecies(curve):
    """Any amount of data, differently every time; a changed byte anywhere is a cryptographic failure."""
    pair = keys.generate_pair(A.ECDH, curve=curve)
    public, private = keys.load_public(pair.public.data), keys.load_private(pair.private.data)
    cipher = ciphers.encrypt(A.ECDH, public, None, TEXT).data
    assert cipher != ciphers.encrypt(A.ECDH, public, None, TEXT).data
    assert ciphers.decrypt(A.ECDH, private, None, cipher) == TEXT
    for at in (0, 5, len(cipher) // 2, len(cipher) - 1):
        broken = cipher[:at] + bytes([cipher[at] ^ 1]) + cipher[at + 1 :]
        refused(R.CRYPTOGRAPHIC_FAILURE, ciphers.decrypt, A.ECDH, private, None, broken)
    refused(R.CRYPTOGRAPHIC_FAILURE, ciphers.decrypt, A.ECDH, private, None, b"")


def test_ml_kem_gives_the_secret_and_its_encapsulation():
    """Encrypt of no data encapsulates, and of data is refused."""
    pair = keys.generate_pair(ML_KEM_768)
    public, private = keys.load_public(pair.public.data), keys.load_private(pair.private.data)
    done = ciphers.encrypt(ML_KEM_768, public, None, b"")
    assert (len(done.data), len(done.iv)) == (32, 1088)
    assert ciphers.decrypt(ML_KEM_768, private, None, done.iv) == done.data
    refused(R.INVALID_FIELD, ciphers.encrypt, ML_KEM_768, public, None, b"data")


def test_a_signing_key_does_not_encrypt():
    """Ed25519 keys have no encryption."""
    pair = keys.generate_pair(A.ED25519)
    key = keys.load_private(pair.private.data)
    refused(R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS, ciphers.encrypt, A.ED25519, key.public_key(), None, b"x")
    refused(R.UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS, ciphers.decrypt, A.ED25519, key, None, b"x")


# ---------------------------------------------------------------------------------------------------------------------
# Policies


@pytest.mark.parametrize(
    ("policy", "algorithm", "size", "fields"),
    [
        (DEFAULT, A.DES3, 24, {"block_cipher_mode": B.CBC}),
        (DEFAULT, A.RC4, 16, {}),
        (FIPS_140_3, A.CHACHA20, 32, {}),
        (FIPS_140_3, A.AES, 32, {"block_cipher_mode": GCM_SIV}),
        (FIPS_140_3, A.AES, 32, {"block_cipher_mode": SIV}),
    ],
    ids=["3DES", "RC4", "ChaCha20", "GCM-SIV", "SIV"],
)
def test_a_policy_keeps_out_what_it_does_not_list(policy, algorithm, size, fields):
    """Both ways, with Permission Denied and the policy's name; the permissive one allows it."""
    key = bytes(range(size))
    error = refused(R.PERMISSION_DENIED, ciphers.encrypt, algorithm, key, given(**fields), bytes(16), policy=policy)
    assert policy.name in error.message
    refused(R.PERMISSION_DENIED, ciphers.decrypt, algorithm, key, given(**fields), bytes(16), iv=IV, policy=policy)
    assert ciphers.encrypt(algorithm, key, given(**fields), bytes(16), policy=PERMISSIVE).data


def test_rsa_1024_decrypts_and_does_not_encrypt():
    """The default policy keeps old data readable."""
    pair = keys.generate_pair(A.RSA, 1024, policy=PERMISSIVE)
    key = keys.load_private(pair.private.data)
    refused(R.PERMISSION_DENIED, ciphers.encrypt, A.RSA, key.public_key(), None, TEXT)
    cipher = ciphers.encrypt(A.RSA, key.public_key(), None, TEXT, policy=PERMISSIVE).data
    assert ciphers.decrypt(A.RSA, key, None, cipher) == TEXT


def test_the_fips_policy_encrypts_with_oaep_only(rsa):
    """SP 800-131A: no PKCS #1 v1.5 for key transport."""
    parameters = given(padding_method=P.PKCS1_V1_5)
    refused(R.PERMISSION_DENIED, ciphers.encrypt, A.RSA, rsa.public_key(), parameters, TEXT, policy=FIPS_140_3)
    assert ciphers.encrypt(A.RSA, rsa.public_key(), None, TEXT, policy=FIPS_140_3).data


def test_cfb8_is_a_mode_of_its_own():
    """An extension value, with the shift of one byte."""
    parameters = given(block_cipher_mode=CFB8)
    cipher = ciphers.encrypt(A.AES, KEY, parameters, TEXT, iv=IV).data
    assert cipher != ciphers.encrypt(A.AES, KEY, given(block_cipher_mode=B.CFB), TEXT, iv=IV).data
    assert ciphers.decrypt(A.AES, KEY, parameters, cipher, iv=IV) == TEXT
