"""Enumerations and bit masks of KMIP 1.0 to 2.1: one line a value (1.4, 9.1.3.2 and 9.1.3.3; 2.1, 11 and 12).

A line gives the number, the spelling of the XML and JSON encodings, and the versions and further spellings where they
are not "1.0 to 2.1" and "none". Enumerations are open: a number without a line makes a member of its own that prints
as hexadecimal and encodes back unchanged.
"""

from enum import KEEP, IntEnum, IntFlag
from typing import Any, Self, cast

from kmip.versions import V1_0, V1_1, V1_2, V1_3, V1_4, V2_0, V2_1, Version


class Enumeration(IntEnum):
    """An open enumeration."""

    spelling: str
    since: Version
    until: Version
    also: tuple[str, ...]

    def __new__(
        cls, number: int, spelling: str = "", since: Version = V1_0, until: Version = V2_1, also: tuple[str, ...] = ()
    ) -> Self:
        member = int.__new__(cls, number)
        member._value_ = number
        member.spelling = spelling or f"0x{number:08X}"
        member.since = since
        member.until = until
        member.also = also
        return member

    @classmethod
    def _missing_(cls, value: object) -> Any:
        if not isinstance(value, int) or not 0 <= value <= 0xFFFFFFFF:
            return None
        member = int.__new__(cls, value)
        member._name_ = member.spelling = f"0x{value:08X}"
        member._value_ = value
        member.since, member.until, member.also = V1_0, V2_1, ()
        return member

    @classmethod
    def of(cls, number: int) -> Self:
        """The member with a number, listed or not; `cls(number)` does not do for an enumeration without any lines."""
        member = cls._value2member_map_.get(number)
        return cast(Self, cls._missing_(number) if member is None else member)

    def __str__(self) -> str:
        return self.spelling

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__class__, (int(self),)

    @property
    def known(self) -> bool:
        """Whether the specification lists the value."""
        return int(self) in type(self)._value2member_map_

    @classmethod
    def by_spelling(cls) -> dict[str, Self]:
        """The members by every spelling they have."""
        return {name: member for member in cls for name in (member.spelling, *member.also)}


class Mask(IntFlag, boundary=KEEP):
    """A bit mask; unknown bits are kept."""

    spelling: str
    also: tuple[str, ...]

    def __new__(cls, bits: int, spelling: str = "", since: Version = V1_0, also: tuple[str, ...] = ()) -> Self:
        member = int.__new__(cls, bits)
        member._value_ = bits
        member.spelling = spelling
        member.also = also
        return member


class AdjustmentType(Enumeration):
    """Adjustment Type (2.1, 11.1)."""

    INCREMENT = 0x00000001, "Increment", V2_0
    DECREMENT = 0x00000002, "Decrement", V2_0
    NEGATE = 0x00000003, "Negate", V2_0


class AlternativeNameType(Enumeration):
    """Alternative Name Type (1.4, 9.1.3.2.34; 2.1, 11.2)."""

    UNINTERPRETED_TEXT_STRING = 0x00000001, "UninterpretedTextString", V1_2
    URI = 0x00000002, "URI", V1_2
    OBJECT_SERIAL_NUMBER = 0x00000003, "ObjectSerialNumber", V1_2
    EMAIL_ADDRESS = 0x00000004, "EmailAddress", V1_2
    DNS_NAME = 0x00000005, "DNSName", V1_2
    X_500_DISTINGUISHED_NAME = 0x00000006, "X_500DistinguishedName", V1_2
    IP_ADDRESS = 0x00000007, "IPAddress", V1_2


class AsynchronousIndicator(Enumeration):
    """Asynchronous Indicator (2.1, 11.3)."""

    MANDATORY = 0x00000001, "Mandatory", V2_0
    OPTIONAL = 0x00000002, "Optional", V2_0
    PROHIBITED = 0x00000003, "Prohibited", V2_0


class AttestationType(Enumeration):
    """Attestation Type (1.4, 9.1.3.2.36; 2.1, 11.4)."""

    TPM_QUOTE = 0x00000001, "TPMQuote", V1_2
    TCG_INTEGRITY_REPORT = 0x00000002, "TCGIntegrityReport", V1_2
    SAML_ASSERTION = 0x00000003, "SAMLAssertion", V1_2


class BatchErrorContinuationOption(Enumeration):
    """Batch Error Continuation Option (1.4, 9.1.3.2.30; 2.1, 11.5)."""

    CONTINUE = 0x00000001, "Continue"
    STOP = 0x00000002, "Stop"
    UNDO = 0x00000003, "Undo"


class BlockCipherMode(Enumeration):
    """Block Cipher Mode (1.4, 9.1.3.2.14; 2.1, 11.6)."""

    CBC = 0x00000001, "CBC"
    ECB = 0x00000002, "ECB"
    PCBC = 0x00000003, "PCBC"
    CFB = 0x00000004, "CFB"
    OFB = 0x00000005, "OFB"
    CTR = 0x00000006, "CTR"
    CMAC = 0x00000007, "CMAC"
    CCM = 0x00000008, "CCM"
    GCM = 0x00000009, "GCM"
    CBC_MAC = 0x0000000A, "CBC_MAC"
    XTS = 0x0000000B, "XTS"
    AESKEYWRAPPADDING = 0x0000000C, "AESKeyWrapPadding"
    NISTKEYWRAP = 0x0000000D, "NISTKeyWrap"
    X9_102_AESKW = 0x0000000E, "X9_102AESKW"
    X9_102_TDKW = 0x0000000F, "X9_102TDKW"
    X9_102_AKW1 = 0x00000010, "X9_102AKW1"
    X9_102_AKW2 = 0x00000011, "X9_102AKW2"
    AEAD = 0x00000012, "AEAD", V1_4


class CancellationResult(Enumeration):
    """Cancellation Result (1.4, 9.1.3.2.25; 2.1, 11.7)."""

    CANCELED = 0x00000001, "Canceled"
    UNABLE_TO_CANCEL = 0x00000002, "UnableToCancel"
    COMPLETED = 0x00000003, "Completed"
    FAILED = 0x00000004, "Failed"
    UNAVAILABLE = 0x00000005, "Unavailable"


class CertificateRequestType(Enumeration):
    """Certificate Request Type (1.4, 9.1.3.2.22; 2.1, 11.8)."""

    CRMF = 0x00000001, "CRMF"
    PKCS_10 = 0x00000002, "PKCS_10"
    PEM = 0x00000003, "PEM"
    PGP = 0x00000004, "PGP", V1_0, V1_4


class CertificateType(Enumeration):
    """Certificate Type (1.4, 9.1.3.2.6; 2.1, 11.9)."""

    X_509 = 0x00000001, "X_509"
    PGP = 0x00000002, "PGP"


class ClientRegistrationMethod(Enumeration):
    """Client Registration Method (1.4, 9.1.3.2.47; 2.1, 11.10)."""

    UNSPECIFIED = 0x00000001, "Unspecified", V1_3
    SERVER_PRE_GENERATED = 0x00000002, "ServerPreGenerated", V1_3
    SERVER_ON_DEMAND = 0x00000003, "ServerOnDemand", V1_3
    CLIENT_GENERATED = 0x00000004, "ClientGenerated", V1_3
    CLIENT_REGISTERED = 0x00000005, "ClientRegistered", V1_3


class CredentialType(Enumeration):
    """Credential Type (1.4, 9.1.3.2.1; 2.1, 11.11)."""

    USERNAME_AND_PASSWORD = 0x00000001, "UsernameAndPassword"
    DEVICE = 0x00000002, "Device", V1_1
    ATTESTATION = 0x00000003, "Attestation", V1_2
    ONE_TIME_PASSWORD = 0x00000004, "OneTimePassword", V2_0
    HASHED_PASSWORD = 0x00000005, "HashedPassword", V2_0
    TICKET = 0x00000006, "Ticket", V2_0


class CryptographicAlgorithm(Enumeration):
    """Cryptographic Algorithm (1.4, 9.1.3.2.13; 2.1, 11.12)."""

    DES = 0x00000001, "DES"
    DES3 = 0x00000002, "DES3"
    AES = 0x00000003, "AES"
    RSA = 0x00000004, "RSA"
    DSA = 0x00000005, "DSA"
    ECDSA = 0x00000006, "ECDSA"
    HMAC_SHA1 = 0x00000007, "HMAC_SHA1"
    HMAC_SHA224 = 0x00000008, "HMAC_SHA224"
    HMAC_SHA256 = 0x00000009, "HMAC_SHA256"
    HMAC_SHA384 = 0x0000000A, "HMAC_SHA384"
    HMAC_SHA512 = 0x0000000B, "HMAC_SHA512"
    HMAC_MD5 = 0x0000000C, "HMAC_MD5"
    DH = 0x0000000D, "DH"
    ECDH = 0x0000000E, "ECDH"
    ECMQV = 0x0000000F, "ECMQV"
    BLOWFISH = 0x00000010, "Blowfish"
    CAMELLIA = 0x00000011, "Camellia"
    CAST5 = 0x00000012, "CAST5"
    IDEA = 0x00000013, "IDEA"
    MARS = 0x00000014, "MARS"
    RC2 = 0x00000015, "RC2"
    RC4 = 0x00000016, "RC4"
    RC5 = 0x00000017, "RC5"
    SKIPJACK = 0x00000018, "SKIPJACK"
    TWOFISH = 0x00000019, "Twofish"
    EC = 0x0000001A, "EC", V1_2
    ONE_TIME_PAD = 0x0000001B, "OneTimePad", V1_3
    CHACHA20 = 0x0000001C, "ChaCha20", V1_4
    POLY1305 = 0x0000001D, "Poly1305", V1_4
    CHACHA20POLY1305 = 0x0000001E, "ChaCha20Poly1305", V1_4
    SHA3_224 = 0x0000001F, "SHA3_224", V1_4
    SHA3_256 = 0x00000020, "SHA3_256", V1_4
    SHA3_384 = 0x00000021, "SHA3_384", V1_4
    SHA3_512 = 0x00000022, "SHA3_512", V1_4
    HMAC_SHA3_224 = 0x00000023, "HMAC_SHA3_224", V1_4
    HMAC_SHA3_256 = 0x00000024, "HMAC_SHA3_256", V1_4
    HMAC_SHA3_384 = 0x00000025, "HMAC_SHA3_384", V1_4
    HMAC_SHA3_512 = 0x00000026, "HMAC_SHA3_512", V1_4
    SHAKE_128 = 0x00000027, "SHAKE_128", V1_4
    SHAKE_256 = 0x00000028, "SHAKE_256", V1_4
    ARIA = 0x00000029, "ARIA", V2_0
    SEED = 0x0000002A, "SEED", V2_0
    SM2 = 0x0000002B, "SM2", V2_0
    SM3 = 0x0000002C, "SM3", V2_0
    SM4 = 0x0000002D, "SM4", V2_0
    GOST_R_34_10_2012 = 0x0000002E, "GOSTR34_10_2012", V2_0
    GOST_R_34_11_2012 = 0x0000002F, "GOSTR34_11_2012", V2_0
    GOST_R_34_13_2015 = 0x00000030, "GOSTR34_13_2015", V2_0
    GOST_28147_89 = 0x00000031, "GOST28147_89", V2_0
    XMSS = 0x00000032, "XMSS", V2_0
    SPHINCS_256 = 0x00000033, "SPHINCS_256", V2_0
    MCELIECE = 0x00000034, "McEliece", V2_0
    MCELIECE_6960119 = 0x00000035, "McEliece_6960119", V2_0
    MCELIECE_8192128 = 0x00000036, "McEliece_8192128", V2_0
    ED25519 = 0x00000037, "Ed25519", V2_0
    ED448 = 0x00000038, "Ed448", V2_0


class DRBGAlgorithm(Enumeration):
    """DRBG Algorithm (1.4, 9.1.3.2.38; 2.1, 11.17)."""

    UNSPECIFIED = 0x00000001, "Unspecified", V1_3
    DUAL_EC = 0x00000002, "Dual_EC", V1_3
    HASH = 0x00000003, "Hash", V1_3
    HMAC = 0x00000004, "HMAC", V1_3
    CTR = 0x00000005, "CTR", V1_3


class DataEnumeration(Enumeration):
    """Data (2.1, 11.13)."""

    DECRYPT = 0x00000001, "Decrypt", V2_0
    ENCRYPT = 0x00000002, "Encrypt", V2_0
    HASH = 0x00000003, "Hash", V2_0
    MAC_MAC_DATA = 0x00000004, "MACMACData", V2_0
    RNG_RETRIEVE = 0x00000005, "RNGRetrieve", V2_0
    SIGN_SIGNATURE_DATA = 0x00000006, "SignSignatureData", V2_0
    SIGNATURE_VERIFY = 0x00000007, "SignatureVerify", V2_0


class DerivationMethod(Enumeration):
    """Derivation Method (1.4, 9.1.3.2.21; 2.1, 11.14)."""

    PBKDF2 = 0x00000001, "PBKDF2"
    HASH = 0x00000002, "HASH"
    HMAC = 0x00000003, "HMAC"
    ENCRYPT = 0x00000004, "ENCRYPT"
    NIST800_108_C = 0x00000005, "NIST800_108_C"
    NIST800_108_F = 0x00000006, "NIST800_108_F"
    NIST800_108_DPI = 0x00000007, "NIST800_108_DPI"
    ASYMMETRIC_KEY = 0x00000008, "AsymmetricKey", V1_4
    AWS_SIGNATURE_VERSION_4 = 0x00000009, "AWSSignatureVersion4", V2_0
    HKDF = 0x0000000A, "HKDF", V2_0


class DestroyAction(Enumeration):
    """Destroy Action (1.4, 9.1.3.2.44; 2.1, 11.15)."""

    UNSPECIFIED = 0x00000001, "Unspecified", V1_3
    KEY_MATERIAL_DELETED = 0x00000002, "KeyMaterialDeleted", V1_3
    KEY_MATERIAL_SHREDDED = 0x00000003, "KeyMaterialShredded", V1_3
    META_DATA_DELETED = 0x00000004, "MetaDataDeleted", V1_3
    META_DATA_SHREDDED = 0x00000005, "MetaDataShredded", V1_3
    DELETED = 0x00000006, "Deleted", V1_3
    SHREDDED = 0x00000007, "Shredded", V1_3


class DigitalSignatureAlgorithm(Enumeration):
    """Digital Signature Algorithm (1.4, 9.1.3.2.7; 2.1, 11.16)."""

    MD2_WITH_RSA_ENCRYPTION = 0x00000001, "MD2WithRSAEncryption", V1_1, V2_1, ("MD2WithRSAEncryptionPKCS_1V1_5",)
    MD5_WITH_RSA_ENCRYPTION = 0x00000002, "MD5WithRSAEncryption", V1_1, V2_1, ("MD5WithRSAEncryptionPKCS_1V1_5",)
    SHA_1_WITH_RSA_ENCRYPTION = 0x00000003, "SHA_1WithRSAEncryption", V1_1, V2_1, ("SHA_1WithRSAEncryptionPKCS_1V1_5",)
    SHA_224_WITH_RSA_ENCRYPTION = (
        0x00000004,
        "SHA_224WithRSAEncryption",
        V1_1,
        V2_1,
        ("SHA_224WithRSAEncryptionPKCS_1V1_5",),
    )
    SHA_256_WITH_RSA_ENCRYPTION = (
        0x00000005,
        "SHA_256WithRSAEncryption",
        V1_1,
        V2_1,
        ("SHA_256WithRSAEncryptionPKCS_1V1_5",),
    )
    SHA_384_WITH_RSA_ENCRYPTION = (
        0x00000006,
        "SHA_384WithRSAEncryption",
        V1_1,
        V2_1,
        ("SHA_384WithRSAEncryptionPKCS_1V1_5",),
    )
    SHA_512_WITH_RSA_ENCRYPTION = (
        0x00000007,
        "SHA_512WithRSAEncryption",
        V1_1,
        V2_1,
        ("SHA_512WithRSAEncryptionPKCS_1V1_5",),
    )
    RSASSA_PSS = 0x00000008, "RSASSA_PSS", V1_1, V2_1, ("RSASSA_PSSPKCS_1V2_1",)
    DSA_WITH_SHA_1 = 0x00000009, "DSAWithSHA_1", V1_1
    DSA_WITH_SHA224 = 0x0000000A, "DSAWithSHA224", V1_1
    DSA_WITH_SHA256 = 0x0000000B, "DSAWithSHA256", V1_1
    ECDSA_WITH_SHA_1 = 0x0000000C, "ECDSAWithSHA_1", V1_1
    ECDSA_WITH_SHA224 = 0x0000000D, "ECDSAWithSHA224", V1_1
    ECDSA_WITH_SHA256 = 0x0000000E, "ECDSAWithSHA256", V1_1
    ECDSA_WITH_SHA384 = 0x0000000F, "ECDSAWithSHA384", V1_1
    ECDSA_WITH_SHA512 = 0x00000010, "ECDSAWithSHA512", V1_1
    SHA3_256_WITH_RSA_ENCRYPTION = 0x00000011, "SHA3_256WithRSAEncryption", V1_4
    SHA3_384_WITH_RSA_ENCRYPTION = 0x00000012, "SHA3_384WithRSAEncryption", V1_4
    SHA3_512_WITH_RSA_ENCRYPTION = 0x00000013, "SHA3_512WithRSAEncryption", V1_4


class EncodingOption(Enumeration):
    """Encoding Option (1.4, 9.1.3.2.32; 2.1, 11.18)."""

    NO_ENCODING = 0x00000001, "NoEncoding", V1_1
    TTLV_ENCODING = 0x00000002, "TTLVEncoding", V1_1


class EndpointRole(Enumeration):
    """Endpoint Role (2.1, 11.19)."""

    CLIENT = 0x00000001, "Client", V2_0
    SERVER = 0x00000002, "Server", V2_0


class FIPS186Variation(Enumeration):
    """FIPS186 Variation (1.4, 9.1.3.2.39; 2.1, 11.20)."""

    UNSPECIFIED = 0x00000001, "Unspecified", V1_3
    GP_X_ORIGINAL = 0x00000002, "GPXOriginal", V1_3
    GP_X_CHANGE_NOTICE = 0x00000003, "GPXChangeNotice", V1_3
    X_ORIGINAL = 0x00000004, "XOriginal", V1_3
    X_CHANGE_NOTICE = 0x00000005, "XChangeNotice", V1_3
    K_ORIGINAL = 0x00000006, "KOriginal", V1_3
    K_CHANGE_NOTICE = 0x00000007, "KChangeNotice", V1_3


class HashingAlgorithm(Enumeration):
    """Hashing Algorithm (1.4, 9.1.3.2.16; 2.1, 11.21)."""

    MD2 = 0x00000001, "MD2"
    MD4 = 0x00000002, "MD4"
    MD5 = 0x00000003, "MD5"
    SHA_1 = 0x00000004, "SHA_1"
    SHA_224 = 0x00000005, "SHA_224"
    SHA_256 = 0x00000006, "SHA_256"
    SHA_384 = 0x00000007, "SHA_384"
    SHA_512 = 0x00000008, "SHA_512"
    RIPEMD_160 = 0x00000009, "RIPEMD_160"
    TIGER = 0x0000000A, "Tiger"
    WHIRLPOOL = 0x0000000B, "Whirlpool"
    SHA_512_224 = 0x0000000C, "SHA_512_224", V1_2
    SHA_512_256 = 0x0000000D, "SHA_512_256", V1_2
    SHA3_224 = 0x0000000E, "SHA3_224", V1_4, V2_1, ("SHA_3_224",)
    SHA3_256 = 0x0000000F, "SHA3_256", V1_4, V2_1, ("SHA_3_256",)
    SHA3_384 = 0x00000010, "SHA3_384", V1_4, V2_1, ("SHA_3_384",)
    SHA3_512 = 0x00000011, "SHA3_512", V1_4, V2_1, ("SHA_3_512",)


class InteropFunction(Enumeration):
    """Interop Function (2.1, 11.22)."""

    BEGIN = 0x00000001, "Begin", V2_0
    END = 0x00000002, "End", V2_0
    RESET = 0x00000003, "Reset", V2_0


class ItemType(Enumeration):
    """Item Type (2.1, 11.23)."""

    STRUCTURE = 0x00000001, "Structure", V2_0
    INTEGER = 0x00000002, "Integer", V2_0
    LONG_INTEGER = 0x00000003, "LongInteger", V2_0
    BIG_INTEGER = 0x00000004, "BigInteger", V2_0
    ENUMERATION = 0x00000005, "Enumeration", V2_0
    BOOLEAN = 0x00000006, "Boolean", V2_0
    TEXT_STRING = 0x00000007, "TextString", V2_0
    BYTE_STRING = 0x00000008, "ByteString", V2_0
    DATE_TIME = 0x00000009, "DateTime", V2_0
    INTERVAL = 0x0000000A, "Interval", V2_0
    DATE_TIME_EXTENDED = 0x0000000B, "DateTimeExtended", V2_0


class KeyCompressionType(Enumeration):
    """Key Compression Type (1.4, 9.1.3.2.2; 2.1, 11.24)."""

    EC_PUBLIC_KEY_TYPE_UNCOMPRESSED = 0x00000001, "ECPublicKeyTypeUncompressed"
    EC_PUBLIC_KEY_TYPE_X9_62_COMPRESSED_PRIME = 0x00000002, "ECPublicKeyTypeX9_62CompressedPrime"
    EC_PUBLIC_KEY_TYPE_X9_62_COMPRESSED_CHAR2 = 0x00000003, "ECPublicKeyTypeX9_62CompressedChar2"
    EC_PUBLIC_KEY_TYPE_X9_62_HYBRID = 0x00000004, "ECPublicKeyTypeX9_62Hybrid"


class KeyFormatType(Enumeration):
    """Key Format Type (1.4, 9.1.3.2.3; 2.1, 11.25)."""

    RAW = 0x00000001, "Raw"
    OPAQUE = 0x00000002, "Opaque"
    PKCS_1 = 0x00000003, "PKCS_1"
    PKCS_8 = 0x00000004, "PKCS_8"
    X_509 = 0x00000005, "X_509"
    ECPRIVATEKEY = 0x00000006, "ECPrivateKey"
    TRANSPARENT_SYMMETRIC_KEY = 0x00000007, "TransparentSymmetricKey"
    TRANSPARENT_DSA_PRIVATE_KEY = 0x00000008, "TransparentDSAPrivateKey"
    TRANSPARENT_DSA_PUBLIC_KEY = 0x00000009, "TransparentDSAPublicKey"
    TRANSPARENT_RSA_PRIVATE_KEY = 0x0000000A, "TransparentRSAPrivateKey"
    TRANSPARENT_RSA_PUBLIC_KEY = 0x0000000B, "TransparentRSAPublicKey"
    TRANSPARENT_DH_PRIVATE_KEY = 0x0000000C, "TransparentDHPrivateKey"
    TRANSPARENT_DH_PUBLIC_KEY = 0x0000000D, "TransparentDHPublicKey"
    TRANSPARENT_ECDSA_PRIVATE_KEY = 0x0000000E, "TransparentECDSAPrivateKey", V1_0, V1_4
    TRANSPARENT_ECDSA_PUBLIC_KEY = 0x0000000F, "TransparentECDSAPublicKey", V1_0, V1_4
    TRANSPARENT_ECDH_PRIVATE_KEY = 0x00000010, "TransparentECDHPrivateKey", V1_0, V1_4
    TRANSPARENT_ECDH_PUBLIC_KEY = 0x00000011, "TransparentECDHPublicKey", V1_0, V1_4
    TRANSPARENT_ECMQV_PRIVATE_KEY = 0x00000012, "TransparentECMQVPrivateKey", V1_0, V1_4
    TRANSPARENT_ECMQV_PUBLIC_KEY = 0x00000013, "TransparentECMQVPublicKey", V1_0, V1_4
    TRANSPARENT_EC_PRIVATE_KEY = 0x00000014, "TransparentECPrivateKey", V1_3
    TRANSPARENT_EC_PUBLIC_KEY = 0x00000015, "TransparentECPublicKey", V1_3
    PKCS_12 = 0x00000016, "PKCS_12", V1_4
    PKCS_10 = 0x00000017, "PKCS_10", V2_0


class KeyRoleType(Enumeration):
    """Key Role Type (1.4, 9.1.3.2.17; 2.1, 11.26)."""

    BDK = 0x00000001, "BDK"
    CVK = 0x00000002, "CVK"
    DEK = 0x00000003, "DEK"
    MKAC = 0x00000004, "MKAC"
    MKSMC = 0x00000005, "MKSMC"
    MKSMI = 0x00000006, "MKSMI"
    MKDAC = 0x00000007, "MKDAC"
    MKDN = 0x00000008, "MKDN"
    MKCP = 0x00000009, "MKCP"
    MKOTH = 0x0000000A, "MKOTH"
    KEK = 0x0000000B, "KEK"
    MAC16609 = 0x0000000C, "MAC16609"
    MAC97971 = 0x0000000D, "MAC97971"
    MAC97972 = 0x0000000E, "MAC97972"
    MAC97973 = 0x0000000F, "MAC97973"
    MAC97974 = 0x00000010, "MAC97974"
    MAC97975 = 0x00000011, "MAC97975"
    ZPK = 0x00000012, "ZPK"
    PVKIBM = 0x00000013, "PVKIBM"
    PVKPVV = 0x00000014, "PVKPVV"
    PVKOTH = 0x00000015, "PVKOTH"
    DUKPT = 0x00000016, "DUKPT", V1_4
    IV = 0x00000017, "IV", V1_4
    TRKBK = 0x00000018, "TRKBK", V1_4


class KeyValueLocationType(Enumeration):
    """Key Value Location Type (1.4, 9.1.3.2.35; 2.1, 11.27)."""

    UNINTERPRETED_TEXT_STRING = 0x00000001, "UninterpretedTextString", V1_2
    URI = 0x00000002, "URI", V1_2


class KeyWrapType(Enumeration):
    """Key Wrap Type (1.4, 9.1.3.2.48; 2.1, 11.29)."""

    NOT_WRAPPED = 0x00000001, "NotWrapped", V1_4
    AS_REGISTERED = 0x00000002, "AsRegistered", V1_4


class LinkType(Enumeration):
    """Link Type (1.4, 9.1.3.2.20; 2.1, 11.28)."""

    CERTIFICATE_LINK = 0x00000101, "CertificateLink"
    PUBLIC_KEY_LINK = 0x00000102, "PublicKeyLink"
    PRIVATE_KEY_LINK = 0x00000103, "PrivateKeyLink"
    DERIVATION_BASE_OBJECT_LINK = 0x00000104, "DerivationBaseObjectLink"
    DERIVED_KEY_LINK = 0x00000105, "DerivedKeyLink"
    REPLACEMENT_OBJECT_LINK = 0x00000106, "ReplacementObjectLink"
    REPLACED_OBJECT_LINK = 0x00000107, "ReplacedObjectLink"
    PARENT_LINK = 0x00000108, "ParentLink", V1_2
    CHILD_LINK = 0x00000109, "ChildLink", V1_2
    PREVIOUS_LINK = 0x0000010A, "PreviousLink", V1_2
    NEXT_LINK = 0x0000010B, "NextLink", V1_2
    PKCS_12_CERTIFICATE_LINK = 0x0000010C, "PKCS_12CertificateLink", V1_4
    PKCS_12_PASSWORD_LINK = 0x0000010D, "PKCS_12PasswordLink", V1_4
    WRAPPING_KEY_LINK = 0x0000010E, "WrappingKeyLink", V2_0


class MaskGenerator(Enumeration):
    """Mask Generator (1.4, 9.1.3.2.49; 2.1, 11.30)."""

    MGF1 = 0x00000001, "MGF1", V1_4, V2_1, ("MFG1",)


class NISTKeyType(Enumeration):
    """NIST Key Type (2.1, 11.32)."""

    PRIVATE_SIGNATURE_KEY = 0x00000001, "PrivateSignatureKey", V2_0
    PUBLIC_SIGNATURE_VERIFICATION_KEY = 0x00000002, "PublicSignatureVerificationKey", V2_0
    SYMMETRIC_AUTHENTICATION_KEY = 0x00000003, "SymmetricAuthenticationKey", V2_0
    PRIVATE_AUTHENTICATION_KEY = 0x00000004, "PrivateAuthenticationKey", V2_0
    PUBLIC_AUTHENTICATION_KEY = 0x00000005, "PublicAuthenticationKey", V2_0
    SYMMETRIC_DATA_ENCRYPTION_KEY = 0x00000006, "SymmetricDataEncryptionKey", V2_0
    SYMMETRIC_KEY_WRAPPING_KEY = 0x00000007, "SymmetricKeyWrappingKey", V2_0
    SYMMETRIC_RANDOM_NUMBER_GENERATION_KEY = 0x00000008, "SymmetricRandomNumberGenerationKey", V2_0
    SYMMETRIC_MASTER_KEY = 0x00000009, "SymmetricMasterKey", V2_0
    PRIVATE_KEY_TRANSPORT_KEY = 0x0000000A, "PrivateKeyTransportKey", V2_0
    PUBLIC_KEY_TRANSPORT_KEY = 0x0000000B, "PublicKeyTransportKey", V2_0
    SYMMETRIC_KEY_AGREEMENT_KEY = 0x0000000C, "SymmetricKeyAgreementKey", V2_0
    PRIVATE_STATIC_KEY_AGREEMENT_KEY = 0x0000000D, "PrivateStaticKeyAgreementKey", V2_0
    PUBLIC_STATIC_KEY_AGREEMENT_KEY = 0x0000000E, "PublicStaticKeyAgreementKey", V2_0
    PRIVATE_EPHEMERAL_KEY_AGREEMENT_KEY = 0x0000000F, "PrivateEphemeralKeyAgreementKey", V2_0
    PUBLIC_EPHEMERAL_KEY_AGREEMENT_KEY = 0x00000010, "PublicEphemeralKeyAgreementKey", V2_0
    SYMMETRIC_AUTHORIZATION_KEY = 0x00000011, "SymmetricAuthorizationKey", V2_0
    PRIVATE_AUTHORIZATION_KEY = 0x00000012, "PrivateAuthorizationKey", V2_0
    PUBLIC_AUTHORIZATION_KEY = 0x00000013, "PublicAuthorizationKey", V2_0


class NameType(Enumeration):
    """Name Type (1.4, 9.1.3.2.11; 2.1, 11.31)."""

    UNINTERPRETED_TEXT_STRING = 0x00000001, "UninterpretedTextString"
    URI = 0x00000002, "URI"


class ObjectGroupMember(Enumeration):
    """Object Group Member (1.4, 9.1.3.2.33; 2.1, 11.33)."""

    GROUP_MEMBER_FRESH = 0x00000001, "GroupMemberFresh", V1_1
    GROUP_MEMBER_DEFAULT = 0x00000002, "GroupMemberDefault", V1_1


class ObjectType(Enumeration):
    """Object Type (1.4, 9.1.3.2.12; 2.1, 11.34)."""

    CERTIFICATE = 0x00000001, "Certificate"
    SYMMETRIC_KEY = 0x00000002, "SymmetricKey"
    PUBLIC_KEY = 0x00000003, "PublicKey"
    PRIVATE_KEY = 0x00000004, "PrivateKey"
    SPLIT_KEY = 0x00000005, "SplitKey"
    TEMPLATE = 0x00000006, "Template", V1_0, V1_4
    SECRET_DATA = 0x00000007, "SecretData"
    OPAQUE_OBJECT = 0x00000008, "OpaqueObject"
    PGP_KEY = 0x00000009, "PGPKey", V1_2
    CERTIFICATE_REQUEST = 0x0000000A, "CertificateRequest", V2_0


class OpaqueDataType(Enumeration):
    """Opaque Data Type (1.4, 9.1.3.2.10; 2.1, 11.35)."""


class Operation(Enumeration):
    """Operation (1.4, 9.1.3.2.27; 2.1, 11.36)."""

    CREATE = 0x00000001, "Create"
    CREATE_KEY_PAIR = 0x00000002, "CreateKeyPair"
    REGISTER = 0x00000003, "Register"
    RE_KEY = 0x00000004, "ReKey"
    DERIVE_KEY = 0x00000005, "DeriveKey"
    CERTIFY = 0x00000006, "Certify"
    RE_CERTIFY = 0x00000007, "ReCertify"
    LOCATE = 0x00000008, "Locate"
    CHECK = 0x00000009, "Check"
    GET = 0x0000000A, "Get"
    GET_ATTRIBUTES = 0x0000000B, "GetAttributes"
    GET_ATTRIBUTE_LIST = 0x0000000C, "GetAttributeList"
    ADD_ATTRIBUTE = 0x0000000D, "AddAttribute"
    MODIFY_ATTRIBUTE = 0x0000000E, "ModifyAttribute"
    DELETE_ATTRIBUTE = 0x0000000F, "DeleteAttribute"
    OBTAIN_LEASE = 0x00000010, "ObtainLease"
    GET_USAGE_ALLOCATION = 0x00000011, "GetUsageAllocation"
    ACTIVATE = 0x00000012, "Activate"
    REVOKE = 0x00000013, "Revoke"
    DESTROY = 0x00000014, "Destroy"
    ARCHIVE = 0x00000015, "Archive"
    RECOVER = 0x00000016, "Recover"
    VALIDATE = 0x00000017, "Validate"
    QUERY = 0x00000018, "Query"
    CANCEL = 0x00000019, "Cancel"
    POLL = 0x0000001A, "Poll"
    NOTIFY = 0x0000001B, "Notify"
    PUT = 0x0000001C, "Put"
    RE_KEY_KEY_PAIR = 0x0000001D, "ReKeyKeyPair", V1_1
    DISCOVER_VERSIONS = 0x0000001E, "DiscoverVersions", V1_1
    ENCRYPT = 0x0000001F, "Encrypt", V1_2
    DECRYPT = 0x00000020, "Decrypt", V1_2
    SIGN = 0x00000021, "Sign", V1_2
    SIGNATURE_VERIFY = 0x00000022, "SignatureVerify", V1_2
    MAC = 0x00000023, "MAC", V1_2
    MAC_VERIFY = 0x00000024, "MACVerify", V1_2
    RNG_RETRIEVE = 0x00000025, "RNGRetrieve", V1_2
    RNG_SEED = 0x00000026, "RNGSeed", V1_2
    HASH = 0x00000027, "Hash", V1_2
    CREATE_SPLIT_KEY = 0x00000028, "CreateSplitKey", V1_2
    JOIN_SPLIT_KEY = 0x00000029, "JoinSplitKey", V1_2
    IMPORT = 0x0000002A, "Import", V1_4
    EXPORT = 0x0000002B, "Export", V1_4
    LOG = 0x0000002C, "Log", V2_0
    LOGIN = 0x0000002D, "Login", V2_0
    LOGOUT = 0x0000002E, "Logout", V2_0
    DELEGATED_LOGIN = 0x0000002F, "DelegatedLogin", V2_0
    ADJUST_ATTRIBUTE = 0x00000030, "AdjustAttribute", V2_0
    SET_ATTRIBUTE = 0x00000031, "SetAttribute", V2_0
    SET_ENDPOINT_ROLE = 0x00000032, "SetEndpointRole", V2_0
    PKCS_11 = 0x00000033, "PKCS_11", V2_0
    INTEROP = 0x00000034, "Interop", V2_0
    RE_PROVISION = 0x00000035, "ReProvision", V2_0
    SET_DEFAULTS = 0x00000036, "SetDefaults", V2_1
    SET_CONSTRAINTS = 0x00000037, "SetConstraints", V2_1
    GET_CONSTRAINTS = 0x00000038, "GetConstraints", V2_1
    QUERY_ASYNCHRONOUS_REQUESTS = 0x00000039, "QueryAsynchronousRequests", V2_1
    PROCESS = 0x0000003A, "Process", V2_1
    PING = 0x0000003B, "Ping", V2_1


class PaddingMethod(Enumeration):
    """Padding Method (1.4, 9.1.3.2.15; 2.1, 11.37)."""

    NONE = 0x00000001, "None"
    OAEP = 0x00000002, "OAEP"
    PKCS5 = 0x00000003, "PKCS5"
    SSL3 = 0x00000004, "SSL3"
    ZEROS = 0x00000005, "Zeros"
    ANSI_X9_23 = 0x00000006, "ANSIX9_23"
    ISO_10126 = 0x00000007, "ISO10126"
    PKCS1_V1_5 = 0x00000008, "PKCS1V1_5"
    X9_31 = 0x00000009, "X9_31"
    PSS = 0x0000000A, "PSS"


class ProcessingStage(Enumeration):
    """Processing Stage (2.1, 11.40)."""

    SUBMITTED = 0x00000001, "Submitted", V2_1
    IN_PROCESS = 0x00000002, "InProcess", V2_1
    COMPLETED = 0x00000003, "Completed", V2_1


class ProfileName(Enumeration):
    """Profile Name (1.4, 9.1.3.2.42; 2.1, 11.41)."""

    BASELINE_SERVER_BASIC_KMIP_V1_2 = 0x00000001, "BaselineServerBasicKMIPV1_2", V1_3, V1_4
    BASELINE_SERVER_TLS_V1_2_KMIP_V1_2 = 0x00000002, "BaselineServerTLSV1_2KMIPV1_2", V1_3, V1_4
    BASELINE_CLIENT_BASIC_KMIP_V1_2 = 0x00000003, "BaselineClientBasicKMIPV1_2", V1_3, V1_4
    BASELINE_CLIENT_TLS_V1_2_KMIP_V1_2 = 0x00000004, "BaselineClientTLSV1_2KMIPV1_2", V1_3, V1_4
    COMPLETE_SERVER_BASIC_KMIP_V1_2 = 0x00000005, "CompleteServerBasicKMIPV1_2", V1_3, V1_4
    COMPLETE_SERVER_TLS_V1_2_KMIP_V1_2 = 0x00000006, "CompleteServerTLSV1_2KMIPV1_2", V1_3, V1_4
    TAPE_LIBRARY_CLIENT_KMIP_V1_0 = 0x00000007, "TapeLibraryClientKMIPV1_0", V1_3, V1_4
    TAPE_LIBRARY_CLIENT_KMIP_V1_1 = 0x00000008, "TapeLibraryClientKMIPV1_1", V1_3, V1_4
    TAPE_LIBRARY_CLIENT_KMIP_V1_2 = 0x00000009, "TapeLibraryClientKMIPV1_2", V1_3, V1_4
    TAPE_LIBRARY_SERVER_KMIP_V1_0 = 0x0000000A, "TapeLibraryServerKMIPV1_0", V1_3, V1_4
    TAPE_LIBRARY_SERVER_KMIP_V1_1 = 0x0000000B, "TapeLibraryServerKMIPV1_1", V1_3, V1_4
    TAPE_LIBRARY_SERVER_KMIP_V1_2 = 0x0000000C, "TapeLibraryServerKMIPV1_2", V1_3, V1_4
    SYMMETRIC_KEY_LIFECYCLE_CLIENT_KMIP_V1_0 = 0x0000000D, "SymmetricKeyLifecycleClientKMIPV1_0", V1_3, V1_4
    SYMMETRIC_KEY_LIFECYCLE_CLIENT_KMIP_V1_1 = 0x0000000E, "SymmetricKeyLifecycleClientKMIPV1_1", V1_3, V1_4
    SYMMETRIC_KEY_LIFECYCLE_CLIENT_KMIP_V1_2 = 0x0000000F, "SymmetricKeyLifecycleClientKMIPV1_2", V1_3, V1_4
    SYMMETRIC_KEY_LIFECYCLE_SERVER_KMIP_V1_0 = 0x00000010, "SymmetricKeyLifecycleServerKMIPV1_0", V1_3, V1_4
    SYMMETRIC_KEY_LIFECYCLE_SERVER_KMIP_V1_1 = 0x00000011, "SymmetricKeyLifecycleServerKMIPV1_1", V1_3, V1_4
    SYMMETRIC_KEY_LIFECYCLE_SERVER_KMIP_V1_2 = 0x00000012, "SymmetricKeyLifecycleServerKMIPV1_2", V1_3, V1_4
    ASYMMETRIC_KEY_LIFECYCLE_CLIENT_KMIP_V1_0 = 0x00000013, "AsymmetricKeyLifecycleClientKMIPV1_0", V1_3, V1_4
    ASYMMETRIC_KEY_LIFECYCLE_CLIENT_KMIP_V1_1 = 0x00000014, "AsymmetricKeyLifecycleClientKMIPV1_1", V1_3, V1_4
    ASYMMETRIC_KEY_LIFECYCLE_CLIENT_KMIP_V1_2 = 0x00000015, "AsymmetricKeyLifecycleClientKMIPV1_2", V1_3, V1_4
    ASYMMETRIC_KEY_LIFECYCLE_SERVER_KMIP_V1_0 = 0x00000016, "AsymmetricKeyLifecycleServerKMIPV1_0", V1_3, V1_4
    ASYMMETRIC_KEY_LIFECYCLE_SERVER_KMIP_V1_1 = 0x00000017, "AsymmetricKeyLifecycleServerKMIPV1_1", V1_3, V1_4
    ASYMMETRIC_KEY_LIFECYCLE_SERVER_KMIP_V1_2 = 0x00000018, "AsymmetricKeyLifecycleServerKMIPV1_2", V1_3, V1_4
    BASIC_CRYPTOGRAPHIC_CLIENT_KMIP_V1_2 = 0x00000019, "BasicCryptographicClientKMIPV1_2", V1_3, V1_4
    BASIC_CRYPTOGRAPHIC_SERVER_KMIP_V1_2 = 0x0000001A, "BasicCryptographicServerKMIPV1_2", V1_3, V1_4
    ADVANCED_CRYPTOGRAPHIC_CLIENT_KMIP_V1_2 = 0x0000001B, "AdvancedCryptographicClientKMIPV1_2", V1_3, V1_4
    ADVANCED_CRYPTOGRAPHIC_SERVER_KMIP_V1_2 = 0x0000001C, "AdvancedCryptographicServerKMIPV1_2", V1_3, V1_4
    RNG_CRYPTOGRAPHIC_CLIENT_KMIP_V1_2 = 0x0000001D, "RNGCryptographicClientKMIPV1_2", V1_3, V1_4
    RNG_CRYPTOGRAPHIC_SERVER_KMIP_V1_2 = 0x0000001E, "RNGCryptographicServerKMIPV1_2", V1_3, V1_4
    BASIC_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_0 = 0x0000001F, "BasicSymmetricKeyFoundryClientKMIPV1_0", V1_3, V1_4
    INTERMEDIATE_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_0 = (
        0x00000020,
        "IntermediateSymmetricKeyFoundryClientKMIPV1_0",
        V1_3,
        V1_4,
    )
    ADVANCED_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_0 = (
        0x00000021,
        "AdvancedSymmetricKeyFoundryClientKMIPV1_0",
        V1_3,
        V1_4,
    )
    BASIC_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_1 = 0x00000022, "BasicSymmetricKeyFoundryClientKMIPV1_1", V1_3, V1_4
    INTERMEDIATE_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_1 = (
        0x00000023,
        "IntermediateSymmetricKeyFoundryClientKMIPV1_1",
        V1_3,
        V1_4,
    )
    ADVANCED_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_1 = (
        0x00000024,
        "AdvancedSymmetricKeyFoundryClientKMIPV1_1",
        V1_3,
        V1_4,
    )
    BASIC_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_2 = 0x00000025, "BasicSymmetricKeyFoundryClientKMIPV1_2", V1_3, V1_4
    INTERMEDIATE_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_2 = (
        0x00000026,
        "IntermediateSymmetricKeyFoundryClientKMIPV1_2",
        V1_3,
        V1_4,
    )
    ADVANCED_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_2 = (
        0x00000027,
        "AdvancedSymmetricKeyFoundryClientKMIPV1_2",
        V1_3,
        V1_4,
    )
    SYMMETRIC_KEY_FOUNDRY_SERVER_KMIP_V1_0 = 0x00000028, "SymmetricKeyFoundryServerKMIPV1_0", V1_3, V1_4
    SYMMETRIC_KEY_FOUNDRY_SERVER_KMIP_V1_1 = 0x00000029, "SymmetricKeyFoundryServerKMIPV1_1", V1_3, V1_4
    SYMMETRIC_KEY_FOUNDRY_SERVER_KMIP_V1_2 = 0x0000002A, "SymmetricKeyFoundryServerKMIPV1_2", V1_3, V1_4
    OPAQUE_MANAGED_OBJECT_STORE_CLIENT_KMIP_V1_0 = 0x0000002B, "OpaqueManagedObjectStoreClientKMIPV1_0", V1_3, V1_4
    OPAQUE_MANAGED_OBJECT_STORE_CLIENT_KMIP_V1_1 = 0x0000002C, "OpaqueManagedObjectStoreClientKMIPV1_1", V1_3, V1_4
    OPAQUE_MANAGED_OBJECT_STORE_CLIENT_KMIP_V1_2 = 0x0000002D, "OpaqueManagedObjectStoreClientKMIPV1_2", V1_3, V1_4
    OPAQUE_MANAGED_OBJECT_STORE_SERVER_KMIP_V1_0 = 0x0000002E, "OpaqueManagedObjectStoreServerKMIPV1_0", V1_3, V1_4
    OPAQUE_MANAGED_OBJECT_STORE_SERVER_KMIP_V1_1 = 0x0000002F, "OpaqueManagedObjectStoreServerKMIPV1_1", V1_3, V1_4
    OPAQUE_MANAGED_OBJECT_STORE_SERVER_KMIP_V1_2 = 0x00000030, "OpaqueManagedObjectStoreServerKMIPV1_2", V1_3, V1_4
    SUITE_B_MINLOS_128_CLIENT_KMIP_V1_0 = 0x00000031, "SuiteBMinLOS_128ClientKMIPV1_0", V1_3, V1_4
    SUITE_B_MINLOS_128_CLIENT_KMIP_V1_1 = 0x00000032, "SuiteBMinLOS_128ClientKMIPV1_1", V1_3, V1_4
    SUITE_B_MINLOS_128_CLIENT_KMIP_V1_2 = 0x00000033, "SuiteBMinLOS_128ClientKMIPV1_2", V1_3, V1_4
    SUITE_B_MINLOS_128_SERVER_KMIP_V1_0 = 0x00000034, "SuiteBMinLOS_128ServerKMIPV1_0", V1_3, V1_4
    SUITE_B_MINLOS_128_SERVER_KMIP_V1_1 = 0x00000035, "SuiteBMinLOS_128ServerKMIPV1_1", V1_3, V1_4
    SUITE_B_MINLOS_128_SERVER_KMIP_V1_2 = 0x00000036, "SuiteBMinLOS_128ServerKMIPV1_2", V1_3, V1_4
    SUITE_B_MINLOS_192_CLIENT_KMIP_V1_0 = 0x00000037, "SuiteBMinLOS_192ClientKMIPV1_0", V1_3, V1_4
    SUITE_B_MINLOS_192_CLIENT_KMIP_V1_1 = 0x00000038, "SuiteBMinLOS_192ClientKMIPV1_1", V1_3, V1_4
    SUITE_B_MINLOS_192_CLIENT_KMIP_V1_2 = 0x00000039, "SuiteBMinLOS_192ClientKMIPV1_2", V1_3, V1_4
    SUITE_B_MINLOS_192_SERVER_KMIP_V1_0 = 0x0000003A, "SuiteBMinLOS_192ServerKMIPV1_0", V1_3, V1_4
    SUITE_B_MINLOS_192_SERVER_KMIP_V1_1 = 0x0000003B, "SuiteBMinLOS_192ServerKMIPV1_1", V1_3, V1_4
    SUITE_B_MINLOS_192_SERVER_KMIP_V1_2 = 0x0000003C, "SuiteBMinLOS_192ServerKMIPV1_2", V1_3, V1_4
    STORAGE_ARRAY_WITH_SELF_ENCRYPTING_DRIVE_CLIENT_KMIP_V1_0 = (
        0x0000003D,
        "StorageArrayWithSelfEncryptingDriveClientKMIPV1_0",
        V1_3,
        V1_4,
    )
    STORAGE_ARRAY_WITH_SELF_ENCRYPTING_DRIVE_CLIENT_KMIP_V1_1 = (
        0x0000003E,
        "StorageArrayWithSelfEncryptingDriveClientKMIPV1_1",
        V1_3,
        V1_4,
    )
    STORAGE_ARRAY_WITH_SELF_ENCRYPTING_DRIVE_CLIENT_KMIP_V1_2 = (
        0x0000003F,
        "StorageArrayWithSelfEncryptingDriveClientKMIPV1_2",
        V1_3,
        V1_4,
    )
    STORAGE_ARRAY_WITH_SELF_ENCRYPTING_DRIVE_SERVER_KMIP_V1_0 = (
        0x00000040,
        "StorageArrayWithSelfEncryptingDriveServerKMIPV1_0",
        V1_3,
        V1_4,
    )
    STORAGE_ARRAY_WITH_SELF_ENCRYPTING_DRIVE_SERVER_KMIP_V1_1 = (
        0x00000041,
        "StorageArrayWithSelfEncryptingDriveServerKMIPV1_1",
        V1_3,
        V1_4,
    )
    STORAGE_ARRAY_WITH_SELF_ENCRYPTING_DRIVE_SERVER_KMIP_V1_2 = (
        0x00000042,
        "StorageArrayWithSelfEncryptingDriveServerKMIPV1_2",
        V1_3,
        V1_4,
    )
    HTTPS_CLIENT_KMIP_V1_0 = 0x00000043, "HTTPSClientKMIPV1_0", V1_3, V1_4
    HTTPS_CLIENT_KMIP_V1_1 = 0x00000044, "HTTPSClientKMIPV1_1", V1_3, V1_4
    HTTPS_CLIENT_KMIP_V1_2 = 0x00000045, "HTTPSClientKMIPV1_2", V1_3, V1_4
    HTTPS_SERVER_KMIP_V1_0 = 0x00000046, "HTTPSServerKMIPV1_0", V1_3, V1_4
    HTTPS_SERVER_KMIP_V1_1 = 0x00000047, "HTTPSServerKMIPV1_1", V1_3, V1_4
    HTTPS_SERVER_KMIP_V1_2 = 0x00000048, "HTTPSServerKMIPV1_2", V1_3, V1_4
    JSON_CLIENT_KMIP_V1_0 = 0x00000049, "JSONClientKMIPV1_0", V1_3, V1_4
    JSON_CLIENT_KMIP_V1_1 = 0x0000004A, "JSONClientKMIPV1_1", V1_3, V1_4
    JSON_CLIENT_KMIP_V1_2 = 0x0000004B, "JSONClientKMIPV1_2", V1_3, V1_4
    JSON_SERVER_KMIP_V1_0 = 0x0000004C, "JSONServerKMIPV1_0", V1_3, V1_4
    JSON_SERVER_KMIP_V1_1 = 0x0000004D, "JSONServerKMIPV1_1", V1_3, V1_4
    JSON_SERVER_KMIP_V1_2 = 0x0000004E, "JSONServerKMIPV1_2", V1_3, V1_4
    XML_CLIENT_KMIP_V1_0 = 0x0000004F, "XMLClientKMIPV1_0", V1_3, V1_4
    XML_CLIENT_KMIP_V1_1 = 0x00000050, "XMLClientKMIPV1_1", V1_3, V1_4
    XML_CLIENT_KMIP_V1_2 = 0x00000051, "XMLClientKMIPV1_2", V1_3, V1_4
    XML_SERVER_KMIP_V1_0 = 0x00000052, "XMLServerKMIPV1_0", V1_3, V1_4
    XML_SERVER_KMIP_V1_1 = 0x00000053, "XMLServerKMIPV1_1", V1_3, V1_4
    XML_SERVER_KMIP_V1_2 = 0x00000054, "XMLServerKMIPV1_2", V1_3, V1_4
    BASELINE_SERVER_BASIC_KMIP_V1_3 = 0x00000055, "BaselineServerBasicKMIPV1_3", V1_3, V1_4
    BASELINE_SERVER_TLS_V1_2_KMIP_V1_3 = 0x00000056, "BaselineServerTLSV1_2KMIPV1_3", V1_3, V1_4
    BASELINE_CLIENT_BASIC_KMIP_V1_3 = 0x00000057, "BaselineClientBasicKMIPV1_3", V1_3, V1_4
    BASELINE_CLIENT_TLS_V1_2_KMIP_V1_3 = 0x00000058, "BaselineClientTLSV1_2KMIPV1_3", V1_3, V1_4
    COMPLETE_SERVER_BASIC_KMIP_V1_3 = 0x00000059, "CompleteServerBasicKMIPV1_3", V1_3, V1_4
    COMPLETE_SERVER_TLS_V1_2_KMIP_V1_3 = 0x0000005A, "CompleteServerTLSV1_2KMIPV1_3", V1_3, V1_4
    TAPE_LIBRARY_CLIENT_KMIP_V1_3 = 0x0000005B, "TapeLibraryClientKMIPV1_3", V1_3, V1_4
    TAPE_LIBRARY_SERVER_KMIP_V1_3 = 0x0000005C, "TapeLibraryServerKMIPV1_3", V1_3, V1_4
    SYMMETRIC_KEY_LIFECYCLE_CLIENT_KMIP_V1_3 = 0x0000005D, "SymmetricKeyLifecycleClientKMIPV1_3", V1_3, V1_4
    SYMMETRIC_KEY_LIFECYCLE_SERVER_KMIP_V1_3 = 0x0000005E, "SymmetricKeyLifecycleServerKMIPV1_3", V1_3, V1_4
    ASYMMETRIC_KEY_LIFECYCLE_CLIENT_KMIP_V1_3 = 0x0000005F, "AsymmetricKeyLifecycleClientKMIPV1_3", V1_3, V1_4
    ASYMMETRIC_KEY_LIFECYCLE_SERVER_KMIP_V1_3 = 0x00000060, "AsymmetricKeyLifecycleServerKMIPV1_3", V1_3, V1_4
    BASIC_CRYPTOGRAPHIC_CLIENT_KMIP_V1_3 = 0x00000061, "BasicCryptographicClientKMIPV1_3", V1_3, V1_4
    BASIC_CRYPTOGRAPHIC_SERVER_KMIP_V1_3 = 0x00000062, "BasicCryptographicServerKMIPV1_3", V1_3, V1_4
    ADVANCED_CRYPTOGRAPHIC_CLIENT_KMIP_V1_3 = 0x00000063, "AdvancedCryptographicClientKMIPV1_3", V1_3, V1_4
    ADVANCED_CRYPTOGRAPHIC_SERVER_KMIP_V1_3 = 0x00000064, "AdvancedCryptographicServerKMIPV1_3", V1_3, V1_4
    RNG_CRYPTOGRAPHIC_CLIENT_KMIP_V1_3 = 0x00000065, "RNGCryptographicClientKMIPV1_3", V1_3, V1_4
    RNG_CRYPTOGRAPHIC_SERVER_KMIP_V1_3 = 0x00000066, "RNGCryptographicServerKMIPV1_3", V1_3, V1_4
    BASIC_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_3 = 0x00000067, "BasicSymmetricKeyFoundryClientKMIPV1_3", V1_3, V1_4
    INTERMEDIATE_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_3 = (
        0x00000068,
        "IntermediateSymmetricKeyFoundryClientKMIPV1_3",
        V1_3,
        V1_4,
    )
    ADVANCED_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_3 = (
        0x00000069,
        "AdvancedSymmetricKeyFoundryClientKMIPV1_3",
        V1_3,
        V1_4,
    )
    SYMMETRIC_KEY_FOUNDRY_SERVER_KMIP_V1_3 = 0x0000006A, "SymmetricKeyFoundryServerKMIPV1_3", V1_3, V1_4
    OPAQUE_MANAGED_OBJECT_STORE_CLIENT_KMIP_V1_3 = 0x0000006B, "OpaqueManagedObjectStoreClientKMIPV1_3", V1_3, V1_4
    OPAQUE_MANAGED_OBJECT_STORE_SERVER_KMIP_V1_3 = 0x0000006C, "OpaqueManagedObjectStoreServerKMIPV1_3", V1_3, V1_4
    SUITE_B_MINLOS_128_CLIENT_KMIP_V1_3 = 0x0000006D, "SuiteBMinLOS_128ClientKMIPV1_3", V1_3, V1_4
    SUITE_B_MINLOS_128_SERVER_KMIP_V1_3 = 0x0000006E, "SuiteBMinLOS_128ServerKMIPV1_3", V1_3, V1_4
    SUITE_B_MINLOS_192_CLIENT_KMIP_V1_3 = 0x0000006F, "SuiteBMinLOS_192ClientKMIPV1_3", V1_3, V1_4
    SUITE_B_MINLOS_192_SERVER_KMIP_V1_3 = 0x00000070, "SuiteBMinLOS_192ServerKMIPV1_3", V1_3, V1_4
    STORAGE_ARRAY_WITH_SELF_ENCRYPTING_DRIVE_CLIENT_KMIP_V1_3 = (
        0x00000071,
        "StorageArrayWithSelfEncryptingDriveClientKMIPV1_3",
        V1_3,
        V1_4,
    )
    STORAGE_ARRAY_WITH_SELF_ENCRYPTING_DRIVE_SERVER_KMIP_V1_3 = (
        0x00000072,
        "StorageArrayWithSelfEncryptingDriveServerKMIPV1_3",
        V1_3,
        V1_4,
    )
    HTTPS_CLIENT_KMIP_V1_3 = 0x00000073, "HTTPSClientKMIPV1_3", V1_3, V1_4
    HTTPS_SERVER_KMIP_V1_3 = 0x00000074, "HTTPSServerKMIPV1_3", V1_3, V1_4
    JSON_CLIENT_KMIP_V1_3 = 0x00000075, "JSONClientKMIPV1_3", V1_3, V1_4
    JSON_SERVER_KMIP_V1_3 = 0x00000076, "JSONServerKMIPV1_3", V1_3, V1_4
    XML_CLIENT_KMIP_V1_3 = 0x00000077, "XMLClientKMIPV1_3", V1_3, V1_4
    XML_SERVER_KMIP_V1_3 = 0x00000078, "XMLServerKMIPV1_3", V1_3, V1_4
    BASELINE_SERVER_BASIC_KMIP_V1_4 = 0x00000079, "BaselineServerBasicKMIPV1_4", V1_4, V1_4
    BASELINE_SERVER_TLS_V1_2_KMIP_V1_4 = 0x0000007A, "BaselineServerTLSV1_2KMIPV1_4", V1_4, V1_4
    BASELINE_CLIENT_BASIC_KMIP_V1_4 = 0x0000007B, "BaselineClientBasicKMIPV1_4", V1_4, V1_4
    BASELINE_CLIENT_TLS_V1_2_KMIP_V1_4 = 0x0000007C, "BaselineClientTLSV1_2KMIPV1_4", V1_4, V1_4
    COMPLETE_SERVER_BASIC_KMIP_V1_4 = 0x0000007D, "CompleteServerBasicKMIPV1_4", V1_4, V1_4
    COMPLETE_SERVER_TLS_V1_2_KMIP_V1_4 = 0x0000007E, "CompleteServerTLSV1_2KMIPV1_4", V1_4, V1_4
    TAPE_LIBRARY_CLIENT_KMIP_V1_4 = 0x0000007F, "TapeLibraryClientKMIPV1_4", V1_4, V1_4
    TAPE_LIBRARY_SERVER_KMIP_V1_4 = 0x00000080, "TapeLibraryServerKMIPV1_4", V1_4, V1_4
    SYMMETRIC_KEY_LIFECYCLE_CLIENT_KMIP_V1_4 = 0x00000081, "SymmetricKeyLifecycleClientKMIPV1_4", V1_4, V1_4
    SYMMETRIC_KEY_LIFECYCLE_SERVER_KMIP_V1_4 = 0x00000082, "SymmetricKeyLifecycleServerKMIPV1_4", V1_4, V1_4
    ASYMMETRIC_KEY_LIFECYCLE_CLIENT_KMIP_V1_4 = 0x00000083, "AsymmetricKeyLifecycleClientKMIPV1_4", V1_4, V1_4
    ASYMMETRIC_KEY_LIFECYCLE_SERVER_KMIP_V1_4 = 0x00000084, "AsymmetricKeyLifecycleServerKMIPV1_4", V1_4, V1_4
    BASIC_CRYPTOGRAPHIC_CLIENT_KMIP_V1_4 = 0x00000085, "BasicCryptographicClientKMIPV1_4", V1_4, V1_4
    BASIC_CRYPTOGRAPHIC_SERVER_KMIP_V1_4 = 0x00000086, "BasicCryptographicServerKMIPV1_4", V1_4, V1_4
    ADVANCED_CRYPTOGRAPHIC_CLIENT_KMIP_V1_4 = 0x00000087, "AdvancedCryptographicClientKMIPV1_4", V1_4, V1_4
    ADVANCED_CRYPTOGRAPHIC_SERVER_KMIP_V1_4 = 0x00000088, "AdvancedCryptographicServerKMIPV1_4", V1_4, V1_4
    RNG_CRYPTOGRAPHIC_CLIENT_KMIP_V1_4 = 0x00000089, "RNGCryptographicClientKMIPV1_4", V1_4, V1_4
    RNG_CRYPTOGRAPHIC_SERVER_KMIP_V1_4 = 0x0000008A, "RNGCryptographicServerKMIPV1_4", V1_4, V1_4
    BASIC_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_4 = 0x0000008B, "BasicSymmetricKeyFoundryClientKMIPV1_4", V1_4, V1_4
    INTERMEDIATE_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_4 = (
        0x0000008C,
        "IntermediateSymmetricKeyFoundryClientKMIPV1_4",
        V1_4,
        V1_4,
    )
    ADVANCED_SYMMETRIC_KEY_FOUNDRY_CLIENT_KMIP_V1_4 = (
        0x0000008D,
        "AdvancedSymmetricKeyFoundryClientKMIPV1_4",
        V1_4,
        V1_4,
    )
    SYMMETRIC_KEY_FOUNDRY_SERVER_KMIP_V1_4 = 0x0000008E, "SymmetricKeyFoundryServerKMIPV1_4", V1_4, V1_4
    OPAQUE_MANAGED_OBJECT_STORE_CLIENT_KMIP_V1_4 = 0x0000008F, "OpaqueManagedObjectStoreClientKMIPV1_4", V1_4, V1_4
    OPAQUE_MANAGED_OBJECT_STORE_SERVER_KMIP_V1_4 = 0x00000090, "OpaqueManagedObjectStoreServerKMIPV1_4", V1_4, V1_4
    SUITE_B_MINLOS_128_CLIENT_KMIP_V1_4 = 0x00000091, "SuiteBMinLOS_128ClientKMIPV1_4", V1_4, V1_4
    SUITE_B_MINLOS_128_SERVER_KMIP_V1_4 = 0x00000092, "SuiteBMinLOS_128ServerKMIPV1_4", V1_4, V1_4
    SUITE_B_MINLOS_192_CLIENT_KMIP_V1_4 = 0x00000093, "SuiteBMinLOS_192ClientKMIPV1_4", V1_4, V1_4
    SUITE_B_MINLOS_192_SERVER_KMIP_V1_4 = 0x00000094, "SuiteBMinLOS_192ServerKMIPV1_4", V1_4, V1_4
    STORAGE_ARRAY_WITH_SELF_ENCRYPTING_DRIVE_CLIENT_KMIP_V1_4 = (
        0x00000095,
        "StorageArrayWithSelfEncryptingDriveClientKMIPV1_4",
        V1_4,
        V1_4,
    )
    STORAGE_ARRAY_WITH_SELF_ENCRYPTING_DRIVE_SERVER_KMIP_V1_4 = (
        0x00000096,
        "StorageArrayWithSelfEncryptingDriveServerKMIPV1_4",
        V1_4,
        V1_4,
    )
    HTTPS_CLIENT_KMIP_V1_4 = 0x00000097, "HTTPSClientKMIPV1_4", V1_4, V1_4
    HTTPS_SERVER_KMIP_V1_4 = 0x00000098, "HTTPSServerKMIPV1_4", V1_4, V1_4
    JSON_CLIENT_KMIP_V1_4 = 0x00000099, "JSONClientKMIPV1_4", V1_4, V1_4
    JSON_SERVER_KMIP_V1_4 = 0x0000009A, "JSONServerKMIPV1_4", V1_4, V1_4
    XML_CLIENT_KMIP_V1_4 = 0x0000009B, "XMLClientKMIPV1_4", V1_4, V1_4
    XML_SERVER_KMIP_V1_4 = 0x0000009C, "XMLServerKMIPV1_4", V1_4, V1_4
    COMPLETE_SERVER_BASIC = 0x00000104, "CompleteServerBasic", V2_0
    COMPLETE_SERVER_TLS_V1_2 = 0x00000105, "CompleteServerTLSV1_2", V2_0
    TAPE_LIBRARY_CLIENT = 0x00000106, "TapeLibraryClient", V2_0
    TAPE_LIBRARY_SERVER = 0x00000107, "TapeLibraryServer", V2_0
    SYMMETRIC_KEY_LIFECYCLE_CLIENT = 0x00000108, "SymmetricKeyLifecycleClient", V2_0
    SYMMETRIC_KEY_LIFECYCLE_SERVER = 0x00000109, "SymmetricKeyLifecycleServer", V2_0
    ASYMMETRIC_KEY_LIFECYCLE_CLIENT = 0x0000010A, "AsymmetricKeyLifecycleClient", V2_0
    ASYMMETRIC_KEY_LIFECYCLE_SERVER = 0x0000010B, "AsymmetricKeyLifecycleServer", V2_0
    BASIC_CRYPTOGRAPHIC_CLIENT = 0x0000010C, "BasicCryptographicClient", V2_0
    BASIC_CRYPTOGRAPHIC_SERVER = 0x0000010D, "BasicCryptographicServer", V2_0
    ADVANCED_CRYPTOGRAPHIC_CLIENT = 0x0000010E, "AdvancedCryptographicClient", V2_0
    ADVANCED_CRYPTOGRAPHIC_SERVER = 0x0000010F, "AdvancedCryptographicServer", V2_0
    RNG_CRYPTOGRAPHIC_CLIENT = 0x00000110, "RNGCryptographicClient", V2_0
    RNG_CRYPTOGRAPHIC_SERVER = 0x00000111, "RNGCryptographicServer", V2_0
    BASIC_SYMMETRIC_KEY_FOUNDRY_CLIENT = 0x00000112, "BasicSymmetricKeyFoundryClient", V2_0
    INTERMEDIATE_SYMMETRIC_KEY_FOUNDRY_CLIENT = 0x00000113, "IntermediateSymmetricKeyFoundryClient", V2_0
    ADVANCED_SYMMETRIC_KEY_FOUNDRY_CLIENT = 0x00000114, "AdvancedSymmetricKeyFoundryClient", V2_0
    SYMMETRIC_KEY_FOUNDRY_SERVER = 0x00000115, "SymmetricKeyFoundryServer", V2_0
    OPAQUE_MANAGED_OBJECT_STORE_CLIENT = 0x00000116, "OpaqueManagedObjectStoreClient", V2_0
    OPAQUE_MANAGED_OBJECT_STORE_SERVER = 0x00000117, "OpaqueManagedObjectStoreServer", V2_0
    STORAGE_ARRAY_WITH_SELF_ENCRYPTING_DRIVE_CLIENT = 0x0000011C, "StorageArrayWithSelfEncryptingDriveClient", V2_0
    STORAGE_ARRAY_WITH_SELF_ENCRYPTING_DRIVE_SERVER = 0x0000011D, "StorageArrayWithSelfEncryptingDriveServer", V2_0
    HTTPS_CLIENT = 0x0000011E, "HTTPSClient", V2_0
    HTTPS_SERVER = 0x0000011F, "HTTPSServer", V2_0
    JSON_CLIENT = 0x00000120, "JSONClient", V2_0
    JSON_SERVER = 0x00000121, "JSONServer", V2_0
    XML_CLIENT = 0x00000122, "XMLClient", V2_0
    XML_SERVER = 0x00000123, "XMLServer", V2_0
    AES_XTS_CLIENT = 0x00000124, "AESXTSClient", V2_0
    AES_XTS_SERVER = 0x00000125, "AESXTSServer", V2_0
    QUANTUM_SAFE_CLIENT = 0x00000126, "QuantumSafeClient", V2_0
    QUANTUM_SAFE_SERVER = 0x00000127, "QuantumSafeServer", V2_0
    PKCS_11_CLIENT = 0x00000128, "PKCS_11Client", V2_0
    PKCS_11_SERVER = 0x00000129, "PKCS_11Server", V2_0
    BASELINE_CLIENT = 0x0000012A, "BaselineClient", V2_0
    BASELINE_SERVER = 0x0000012B, "BaselineServer", V2_0
    COMPLETE_SERVER = 0x0000012C, "CompleteServer", V2_0


class ProtectionLevel(Enumeration):
    """Protection Level (2.1, 11.42)."""

    HIGH = 0x00000001, "High", V2_0
    LOW = 0x00000002, "Low", V2_0


class PutFunction(Enumeration):
    """Put Function (1.4, 9.1.3.2.26; 2.1, 11.43)."""

    NEW = 0x00000001, "New"
    REPLACE = 0x00000002, "Replace"


class QueryFunction(Enumeration):
    """Query Function (1.4, 9.1.3.2.24; 2.1, 11.44)."""

    QUERY_OPERATIONS = 0x00000001, "QueryOperations"
    QUERY_OBJECTS = 0x00000002, "QueryObjects"
    QUERY_SERVER_INFORMATION = 0x00000003, "QueryServerInformation"
    QUERY_APPLICATION_NAMESPACES = 0x00000004, "QueryApplicationNamespaces"
    QUERY_EXTENSION_LIST = 0x00000005, "QueryExtensionList", V1_1
    QUERY_EXTENSION_MAP = 0x00000006, "QueryExtensionMap", V1_1
    QUERY_ATTESTATION_TYPES = 0x00000007, "QueryAttestationTypes", V1_2
    QUERY_RNGS = 0x00000008, "QueryRNGs", V1_3
    QUERY_VALIDATIONS = 0x00000009, "QueryValidations", V1_3
    QUERY_PROFILES = 0x0000000A, "QueryProfiles", V1_3
    QUERY_CAPABILITIES = 0x0000000B, "QueryCapabilities", V1_3
    QUERY_CLIENT_REGISTRATION_METHODS = 0x0000000C, "QueryClientRegistrationMethods", V1_3
    QUERY_DEFAULTS_INFORMATION = 0x0000000D, "QueryDefaultsInformation", V2_0
    QUERY_STORAGE_PROTECTION_MASKS = 0x0000000E, "QueryStorageProtectionMasks", V2_0


class RNGAlgorithm(Enumeration):
    """RNG Algorithm (1.4, 9.1.3.2.37; 2.1, 11.49)."""

    UNSPECIFIED = 0x00000001, "Unspecified", V1_3
    FIPS_186_2 = 0x00000002, "FIPS186_2", V1_3
    DRBG = 0x00000003, "DRBG", V1_3
    NRBG = 0x00000004, "NRBG", V1_3
    ANSI_X9_31 = 0x00000005, "ANSIX9_31", V1_3
    ANSI_X9_62 = 0x00000006, "ANSIX9_62", V1_3


class RNGMode(Enumeration):
    """RNG Mode (1.4, 9.1.3.2.46; 2.1, 11.50)."""

    UNSPECIFIED = 0x00000001, "Unspecified", V1_3
    SHARED_INSTANTIATION = 0x00000002, "SharedInstantiation", V1_3
    NON_SHARED_INSTANTIATION = 0x00000003, "NonSharedInstantiation", V1_3


class RecommendedCurve(Enumeration):
    """Recommended Curve (1.4, 9.1.3.2.5; 2.1, 11.45)."""

    P_192 = 0x00000001, "P_192"
    K_163 = 0x00000002, "K_163"
    B_163 = 0x00000003, "B_163"
    P_224 = 0x00000004, "P_224"
    K_233 = 0x00000005, "K_233"
    B_233 = 0x00000006, "B_233"
    P_256 = 0x00000007, "P_256"
    K_283 = 0x00000008, "K_283"
    B_283 = 0x00000009, "B_283"
    P_384 = 0x0000000A, "P_384"
    K_409 = 0x0000000B, "K_409"
    B_409 = 0x0000000C, "B_409"
    P_521 = 0x0000000D, "P_521"
    K_571 = 0x0000000E, "K_571"
    B_571 = 0x0000000F, "B_571"
    SECP112R1 = 0x00000010, "SECP112R1", V1_2
    SECP112R2 = 0x00000011, "SECP112R2", V1_2
    SECP128R1 = 0x00000012, "SECP128R1", V1_2
    SECP128R2 = 0x00000013, "SECP128R2", V1_2
    SECP160K1 = 0x00000014, "SECP160K1", V1_2
    SECP160R1 = 0x00000015, "SECP160R1", V1_2
    SECP160R2 = 0x00000016, "SECP160R2", V1_2
    SECP192K1 = 0x00000017, "SECP192K1", V1_2
    SECP224K1 = 0x00000018, "SECP224K1", V1_2
    SECP256K1 = 0x00000019, "SECP256K1", V1_2
    SECT113R1 = 0x0000001A, "SECT113R1", V1_2
    SECT113R2 = 0x0000001B, "SECT113R2", V1_2
    SECT131R1 = 0x0000001C, "SECT131R1", V1_2
    SECT131R2 = 0x0000001D, "SECT131R2", V1_2
    SECT163R1 = 0x0000001E, "SECT163R1", V1_2
    SECT193R1 = 0x0000001F, "SECT193R1", V1_2
    SECT193R2 = 0x00000020, "SECT193R2", V1_2
    SECT239K1 = 0x00000021, "SECT239K1", V1_2
    ANSIX9P192V2 = 0x00000022, "ANSIX9P192V2", V1_2
    ANSIX9P192V3 = 0x00000023, "ANSIX9P192V3", V1_2
    ANSIX9P239V1 = 0x00000024, "ANSIX9P239V1", V1_2
    ANSIX9P239V2 = 0x00000025, "ANSIX9P239V2", V1_2
    ANSIX9P239V3 = 0x00000026, "ANSIX9P239V3", V1_2
    ANSIX9C2PNB163V1 = 0x00000027, "ANSIX9C2PNB163V1", V1_2
    ANSIX9C2PNB163V2 = 0x00000028, "ANSIX9C2PNB163V2", V1_2
    ANSIX9C2PNB163V3 = 0x00000029, "ANSIX9C2PNB163V3", V1_2
    ANSIX9C2PNB176V1 = 0x0000002A, "ANSIX9C2PNB176V1", V1_2
    ANSIX9C2TNB191V1 = 0x0000002B, "ANSIX9C2TNB191V1", V1_2
    ANSIX9C2TNB191V2 = 0x0000002C, "ANSIX9C2TNB191V2", V1_2
    ANSIX9C2TNB191V3 = 0x0000002D, "ANSIX9C2TNB191V3", V1_2
    ANSIX9C2PNB208W1 = 0x0000002E, "ANSIX9C2PNB208W1", V1_2
    ANSIX9C2TNB239V1 = 0x0000002F, "ANSIX9C2TNB239V1", V1_2
    ANSIX9C2TNB239V2 = 0x00000030, "ANSIX9C2TNB239V2", V1_2
    ANSIX9C2TNB239V3 = 0x00000031, "ANSIX9C2TNB239V3", V1_2
    ANSIX9C2PNB272W1 = 0x00000032, "ANSIX9C2PNB272W1", V1_2
    ANSIX9C2PNB304W1 = 0x00000033, "ANSIX9C2PNB304W1", V1_2
    ANSIX9C2TNB359V1 = 0x00000034, "ANSIX9C2TNB359V1", V1_2
    ANSIX9C2PNB368W1 = 0x00000035, "ANSIX9C2PNB368W1", V1_2
    ANSIX9C2TNB431R1 = 0x00000036, "ANSIX9C2TNB431R1", V1_2
    BRAINPOOLP160R1 = 0x00000037, "BRAINPOOLP160R1", V1_2
    BRAINPOOLP160T1 = 0x00000038, "BRAINPOOLP160T1", V1_2
    BRAINPOOLP192R1 = 0x00000039, "BRAINPOOLP192R1", V1_2
    BRAINPOOLP192T1 = 0x0000003A, "BRAINPOOLP192T1", V1_2
    BRAINPOOLP224R1 = 0x0000003B, "BRAINPOOLP224R1", V1_2
    BRAINPOOLP224T1 = 0x0000003C, "BRAINPOOLP224T1", V1_2
    BRAINPOOLP256R1 = 0x0000003D, "BRAINPOOLP256R1", V1_2
    BRAINPOOLP256T1 = 0x0000003E, "BRAINPOOLP256T1", V1_2
    BRAINPOOLP320R1 = 0x0000003F, "BRAINPOOLP320R1", V1_2
    BRAINPOOLP320T1 = 0x00000040, "BRAINPOOLP320T1", V1_2
    BRAINPOOLP384R1 = 0x00000041, "BRAINPOOLP384R1", V1_2
    BRAINPOOLP384T1 = 0x00000042, "BRAINPOOLP384T1", V1_2
    BRAINPOOLP512R1 = 0x00000043, "BRAINPOOLP512R1", V1_2
    BRAINPOOLP512T1 = 0x00000044, "BRAINPOOLP512T1", V1_2
    CURVE25519 = 0x00000045, "CURVE25519", V2_0
    CURVE448 = 0x00000046, "CURVE448", V2_0


class ResultReason(Enumeration):
    """Result Reason (1.4, 9.1.3.2.29; 2.1, 11.46)."""

    ITEM_NOT_FOUND = 0x00000001, "ItemNotFound"
    RESPONSE_TOO_LARGE = 0x00000002, "ResponseTooLarge"
    AUTHENTICATION_NOT_SUCCESSFUL = 0x00000003, "AuthenticationNotSuccessful"
    INVALID_MESSAGE = 0x00000004, "InvalidMessage"
    OPERATION_NOT_SUPPORTED = 0x00000005, "OperationNotSupported"
    MISSING_DATA = 0x00000006, "MissingData"
    INVALID_FIELD = 0x00000007, "InvalidField"
    FEATURE_NOT_SUPPORTED = 0x00000008, "FeatureNotSupported"
    OPERATION_CANCELED_BY_REQUESTER = 0x00000009, "OperationCanceledByRequester"
    CRYPTOGRAPHIC_FAILURE = 0x0000000A, "CryptographicFailure"
    ILLEGAL_OPERATION = 0x0000000B, "IllegalOperation", V1_0, V1_4
    PERMISSION_DENIED = 0x0000000C, "PermissionDenied"
    OBJECT_ARCHIVED = 0x0000000D, "ObjectArchived"
    INDEX_OUT_OF_BOUNDS = 0x0000000E, "IndexOutOfBounds", V1_0, V1_4
    APPLICATION_NAMESPACE_NOT_SUPPORTED = 0x0000000F, "ApplicationNamespaceNotSupported"
    KEY_FORMAT_TYPE_NOT_SUPPORTED = 0x00000010, "KeyFormatTypeNotSupported"
    KEY_COMPRESSION_TYPE_NOT_SUPPORTED = 0x00000011, "KeyCompressionTypeNotSupported"
    ENCODING_OPTION_ERROR = 0x00000012, "EncodingOptionError", V1_1
    KEY_VALUE_NOT_PRESENT = 0x00000013, "KeyValueNotPresent", V1_2
    ATTESTATION_REQUIRED = 0x00000014, "AttestationRequired", V1_2
    ATTESTATION_FAILED = 0x00000015, "AttestationFailed", V1_2
    SENSITIVE = 0x00000016, "Sensitive", V1_4
    NOT_EXTRACTABLE = 0x00000017, "NotExtractable", V1_4
    OBJECT_ALREADY_EXISTS = 0x00000018, "ObjectAlreadyExists", V1_4
    INVALID_TICKET = 0x00000019, "InvalidTicket", V2_0
    USAGE_LIMIT_EXCEEDED = 0x0000001A, "UsageLimitExceeded", V2_0, V2_1, ("UsageLimitsExceeded",)
    NUMERIC_RANGE = 0x0000001B, "NumericRange", V2_0
    INVALID_DATA_TYPE = 0x0000001C, "InvalidDataType", V2_0
    READ_ONLY_ATTRIBUTE = 0x0000001D, "ReadOnlyAttribute", V2_0
    MULTI_VALUED_ATTRIBUTE = 0x0000001E, "MultiValuedAttribute", V2_0
    UNSUPPORTED_ATTRIBUTE = 0x0000001F, "UnsupportedAttribute", V2_0
    ATTRIBUTE_INSTANCE_NOT_FOUND = 0x00000020, "AttributeInstanceNotFound", V2_0
    ATTRIBUTE_NOT_FOUND = 0x00000021, "AttributeNotFound", V2_0
    ATTRIBUTE_READ_ONLY = 0x00000022, "AttributeReadOnly", V2_0
    ATTRIBUTE_SINGLE_VALUED = 0x00000023, "AttributeSingleValued", V2_0
    BAD_CRYPTOGRAPHIC_PARAMETERS = 0x00000024, "BadCryptographicParameters", V2_0
    BAD_PASSWORD = 0x00000025, "BadPassword", V2_0
    CODEC_ERROR = 0x00000026, "CodecError", V2_0
    ILLEGAL_OBJECT_TYPE = 0x00000028, "IllegalObjectType", V2_0
    INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK = 0x00000029, "IncompatibleCryptographicUsageMask", V2_0
    INTERNAL_SERVER_ERROR = 0x0000002A, "InternalServerError", V2_0
    INVALID_ASYNCHRONOUS_CORRELATION_VALUE = 0x0000002B, "InvalidAsynchronousCorrelationValue", V2_0
    INVALID_ATTRIBUTE = 0x0000002C, "InvalidAttribute", V2_0
    INVALID_ATTRIBUTE_VALUE = 0x0000002D, "InvalidAttributeValue", V2_0
    INVALID_CORRELATION_VALUE = 0x0000002E, "InvalidCorrelationValue", V2_0
    INVALID_CSR = 0x0000002F, "InvalidCSR", V2_0
    INVALID_OBJECT_TYPE = 0x00000030, "InvalidObjectType", V2_0
    KEY_WRAP_TYPE_NOT_SUPPORTED = 0x00000032, "KeyWrapTypeNotSupported", V2_0
    MISSING_INITIALIZATION_VECTOR = 0x00000034, "MissingInitializationVector", V2_0
    NON_UNIQUE_NAME_ATTRIBUTE = 0x00000035, "NonUniqueNameAttribute", V2_0
    OBJECT_DESTROYED = 0x00000036, "ObjectDestroyed", V2_0
    OBJECT_NOT_FOUND = 0x00000037, "ObjectNotFound", V2_0
    NOT_AUTHORISED = 0x00000039, "NotAuthorised", V2_0, V2_1, ("NotAuthorized",)
    SERVER_LIMIT_EXCEEDED = 0x0000003A, "ServerLimitExceeded", V2_0
    UNKNOWN_ENUMERATION = 0x0000003B, "UnknownEnumeration", V2_0
    UNKNOWN_MESSAGE_EXTENSION = 0x0000003C, "UnknownMessageExtension", V2_0
    UNKNOWN_TAG = 0x0000003D, "UnknownTag", V2_0
    UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS = 0x0000003E, "UnsupportedCryptographicParameters", V2_0
    UNSUPPORTED_PROTOCOL_VERSION = 0x0000003F, "UnsupportedProtocolVersion", V2_0
    WRAPPING_OBJECT_ARCHIVED = 0x00000040, "WrappingObjectArchived", V2_0
    WRAPPING_OBJECT_DESTROYED = 0x00000041, "WrappingObjectDestroyed", V2_0
    WRAPPING_OBJECT_NOT_FOUND = 0x00000042, "WrappingObjectNotFound", V2_0
    WRONG_KEY_LIFECYCLE_STATE = 0x00000043, "WrongKeyLifecycleState", V2_0
    PROTECTION_STORAGE_UNAVAILABLE = 0x00000044, "ProtectionStorageUnavailable", V2_0
    PKCS_11_CODEC_ERROR = 0x00000045, "PKCS_11CodecError", V2_0
    PKCS_11_INVALID_FUNCTION = 0x00000046, "PKCS_11InvalidFunction", V2_0
    PKCS_11_INVALID_INTERFACE = 0x00000047, "PKCS_11InvalidInterface", V2_0
    PRIVATE_PROTECTION_STORAGE_UNAVAILABLE = 0x00000048, "PrivateProtectionStorageUnavailable", V2_0
    PUBLIC_PROTECTION_STORAGE_UNAVAILABLE = 0x00000049, "PublicProtectionStorageUnavailable", V2_0
    UNKNOWN_OBJECT_GROUP = 0x0000004A, "UnknownObjectGroup", V2_1
    CONSTRAINT_VIOLATION = 0x0000004B, "ConstraintViolation", V2_1
    DUPLICATE_PROCESS_REQUEST = 0x0000004C, "DuplicateProcessRequest", V2_1
    GENERAL_FAILURE = 0x00000100, "GeneralFailure"


class ResultStatus(Enumeration):
    """Result Status (1.4, 9.1.3.2.28; 2.1, 11.47)."""

    SUCCESS = 0x00000000, "Success"
    OPERATION_FAILED = 0x00000001, "OperationFailed"
    OPERATION_PENDING = 0x00000002, "OperationPending"
    OPERATION_UNDONE = 0x00000003, "OperationUndone"


class RevocationReasonCode(Enumeration):
    """Revocation Reason Code (1.4, 9.1.3.2.19; 2.1, 11.48)."""

    UNSPECIFIED = 0x00000001, "Unspecified"
    KEY_COMPROMISE = 0x00000002, "KeyCompromise"
    CA_COMPROMISE = 0x00000003, "CACompromise"
    AFFILIATION_CHANGED = 0x00000004, "AffiliationChanged"
    SUPERSEDED = 0x00000005, "Superseded"
    CESSATION_OF_OPERATION = 0x00000006, "CessationOfOperation"
    PRIVILEGE_WITHDRAWN = 0x00000007, "PrivilegeWithdrawn"


class RotateNameType(Enumeration):
    """Rotate Name Type (2.1, 11.51)."""

    UNINTERPRETED_TEXT_STRING = 0x00000001, "UninterpretedTextString", V2_1
    URI = 0x00000002, "URI", V2_1


class SecretDataType(Enumeration):
    """Secret Data Type (1.4, 9.1.3.2.9; 2.1, 11.52)."""

    PASSWORD = 0x00000001, "Password"
    SEED = 0x00000002, "Seed"


class ShreddingAlgorithm(Enumeration):
    """Shredding Algorithm (1.4, 9.1.3.2.45; 2.1, 11.53)."""

    UNSPECIFIED = 0x00000001, "Unspecified", V1_3
    CRYPTOGRAPHIC = 0x00000002, "Cryptographic", V1_3
    UNSUPPORTED = 0x00000003, "Unsupported", V1_3


class SplitKeyMethod(Enumeration):
    """Split Key Method (1.4, 9.1.3.2.8; 2.1, 11.54)."""

    XOR = 0x00000001, "XOR"
    POLYNOMIAL_SHARING_GF_2_16 = 0x00000002, "PolynomialSharingGF2_16", V1_0, V2_1, ("PolynomialSharingGF216",)
    POLYNOMIAL_SHARING_PRIME_FIELD = 0x00000003, "PolynomialSharingPrimeField"
    POLYNOMIAL_SHARING_GF_2_8 = 0x00000004, "PolynomialSharingGF2_8", V1_2, V2_1, ("PolynomialSharingGF28",)


class State(Enumeration):
    """State (1.4, 9.1.3.2.18; 2.1, 11.55)."""

    PRE_ACTIVE = 0x00000001, "PreActive"
    ACTIVE = 0x00000002, "Active"
    DEACTIVATED = 0x00000003, "Deactivated"
    COMPROMISED = 0x00000004, "Compromised"
    DESTROYED = 0x00000005, "Destroyed"
    DESTROYED_COMPROMISED = 0x00000006, "DestroyedCompromised"


class TicketType(Enumeration):
    """Ticket Type (2.1, 11.57)."""

    LOGIN = 0x00000001, "Login", V2_0


class UniqueIdentifierEnumeration(Enumeration):
    """Unique Identifier (2.1, 11.58)."""

    ID_PLACEHOLDER = 0x00000001, "IDPlaceholder", V2_0
    CERTIFY = 0x00000002, "Certify", V2_0
    CREATE = 0x00000003, "Create", V2_0
    CREATE_KEY_PAIR = 0x00000004, "CreateKeyPair", V2_0
    CREATE_KEY_PAIR_PRIVATE_KEY = 0x00000005, "CreateKeyPairPrivateKey", V2_0
    CREATE_KEY_PAIR_PUBLIC_KEY = 0x00000006, "CreateKeyPairPublicKey", V2_0
    CREATE_SPLIT_KEY = 0x00000007, "CreateSplitKey", V2_0
    DERIVE_KEY = 0x00000008, "DeriveKey", V2_0
    IMPORT = 0x00000009, "Import", V2_0
    JOIN_SPLIT_KEY = 0x0000000A, "JoinSplitKey", V2_0
    LOCATE = 0x0000000B, "Locate", V2_0
    REGISTER = 0x0000000C, "Register", V2_0
    RE_KEY = 0x0000000D, "ReKey", V2_0
    RE_CERTIFY = 0x0000000E, "ReCertify", V2_0
    RE_KEY_KEY_PAIR = 0x0000000F, "ReKeyKeyPair", V2_0
    RE_KEY_KEY_PAIR_PRIVATE_KEY = 0x00000010, "ReKeyKeyPairPrivateKey", V2_0
    RE_KEY_KEY_PAIR_PUBLIC_KEY = 0x00000011, "ReKeyKeyPairPublicKey", V2_0


class UnwrapMode(Enumeration):
    """Unwrap Mode (1.4, 9.1.3.2.43; 2.1, 11.59)."""

    UNSPECIFIED = 0x00000001, "Unspecified", V1_3
    PROCESSED = 0x00000002, "Processed", V1_3
    NOT_PROCESSED = 0x00000003, "NotProcessed", V1_3


class UsageLimitsUnit(Enumeration):
    """Usage Limits Unit (1.4, 9.1.3.2.31; 2.1, 11.60)."""

    BYTE = 0x00000001, "Byte"
    OBJECT = 0x00000002, "Object"


class ValidationAuthorityType(Enumeration):
    """Validation Authority Type (1.4, 9.1.3.2.40; 2.1, 11.63)."""

    UNSPECIFIED = 0x00000001, "Unspecified", V1_3
    NIST_CMVP = 0x00000002, "NISTCMVP", V1_3
    COMMON_CRITERIA = 0x00000003, "CommonCriteria", V1_3


class ValidationType(Enumeration):
    """Validation Type (1.4, 9.1.3.2.41; 2.1, 11.64)."""

    UNSPECIFIED = 0x00000001, "Unspecified", V1_3
    HARDWARE = 0x00000002, "Hardware", V1_3
    SOFTWARE = 0x00000003, "Software", V1_3
    FIRMWARE = 0x00000004, "Firmware", V1_3
    HYBRID = 0x00000005, "Hybrid", V1_3


class ValidityIndicator(Enumeration):
    """Validity Indicator (1.4, 9.1.3.2.23; 2.1, 11.61)."""

    VALID = 0x00000001, "Valid"
    INVALID = 0x00000002, "Invalid"
    UNKNOWN = 0x00000003, "Unknown"


class WrappingMethod(Enumeration):
    """Wrapping Method (1.4, 9.1.3.2.4; 2.1, 11.62)."""

    ENCRYPT = 0x00000001, "Encrypt"
    MAC_SIGN = 0x00000002, "MACSign"
    ENCRYPT_THEN_MAC_SIGN = 0x00000003, "EncryptThenMACSign"
    MAC_SIGN_THEN_ENCRYPT = 0x00000004, "MACSignThenEncrypt"
    TR_31 = 0x00000005, "TR_31"


class CryptographicUsageMask(Mask):
    """Cryptographic Usage Mask (1.4, 9.1.3.3.1; 2.1, 12.1)."""

    SIGN = 0x00000001, "Sign"
    VERIFY = 0x00000002, "Verify"
    ENCRYPT = 0x00000004, "Encrypt"
    DECRYPT = 0x00000008, "Decrypt"
    WRAP_KEY = 0x00000010, "WrapKey"
    UNWRAP_KEY = 0x00000020, "UnwrapKey"
    EXPORT = 0x00000040, "Export"
    MAC_GENERATE = 0x00000080, "MACGenerate"
    MAC_VERIFY = 0x00000100, "MACVerify"
    DERIVE_KEY = 0x00000200, "DeriveKey"
    CONTENT_COMMITMENT_NON_REPUDIATION = 0x00000400, "ContentCommitmentNonRepudiation", V1_0, ("ContentCommitment",)
    KEY_AGREEMENT = 0x00000800, "KeyAgreement"
    CERTIFICATE_SIGN = 0x00001000, "CertificateSign"
    CRL_SIGN = 0x00002000, "CRLSign"
    GENERATE_CRYPTOGRAM = 0x00004000, "GenerateCryptogram"
    VALIDATE_CRYPTOGRAM = 0x00008000, "ValidateCryptogram"
    TRANSLATE_ENCRYPT = 0x00010000, "TranslateEncrypt"
    TRANSLATE_DECRYPT = 0x00020000, "TranslateDecrypt"
    TRANSLATE_WRAP = 0x00040000, "TranslateWrap"
    TRANSLATE_UNWRAP = 0x00080000, "TranslateUnwrap"
    AUTHENTICATE = 0x00100000, "Authenticate", V2_0
    UNRESTRICTED = 0x00200000, "Unrestricted", V2_0
    FPE_ENCRYPT = 0x00400000, "FPEEncrypt", V2_0
    FPE_DECRYPT = 0x00800000, "FPEDecrypt", V2_0


class ProtectionStorageMask(Mask):
    """Protection Storage Mask (2.1, 12.2)."""

    SOFTWARE = 0x00000001, "Software", V2_0
    HARDWARE = 0x00000002, "Hardware", V2_0
    ON_PROCESSOR = 0x00000004, "OnProcessor", V2_0
    ON_SYSTEM = 0x00000008, "OnSystem", V2_0
    OFF_SYSTEM = 0x00000010, "OffSystem", V2_0
    HYPERVISOR = 0x00000020, "Hypervisor", V2_0
    OPERATING_SYSTEM = 0x00000040, "OperatingSystem", V2_0
    CONTAINER = 0x00000080, "Container", V2_0
    ON_PREMISES = 0x00000100, "OnPremises", V2_0
    OFF_PREMISES = 0x00000200, "OffPremises", V2_0
    SELF_MANAGED = 0x00000400, "SelfManaged", V2_0
    OUTSOURCED = 0x00000800, "Outsourced", V2_0
    VALIDATED = 0x00001000, "Validated", V2_0
    SAME_JURISDICTION = 0x00002000, "SameJurisdiction", V2_0


class StorageStatusMask(Mask):
    """Storage Status Mask (1.4, 9.1.3.3.2; 2.1, 12.3)."""

    ON_LINE_STORAGE = 0x00000001, "OnLineStorage"
    ARCHIVAL_STORAGE = 0x00000002, "ArchivalStorage"
    DESTROYED_STORAGE = 0x00000004, "DestroyedStorage", V2_0


class PKCS11Function(Enumeration):
    """Function of the PKCS#11 interface by its position in CK_FUNCTION_LIST_3_0 (2.1, 11.38)."""

    C_INITIALIZE = 0x00000001, "C_Initialize", V2_0
    C_FINALIZE = 0x00000002, "C_Finalize", V2_0
    C_GET_INFO = 0x00000003, "C_GetInfo", V2_0
    C_GET_FUNCTION_LIST = 0x00000004, "C_GetFunctionList", V2_0
    C_GET_SLOT_LIST = 0x00000005, "C_GetSlotList", V2_0
    C_GET_SLOT_INFO = 0x00000006, "C_GetSlotInfo", V2_0
    C_GET_TOKEN_INFO = 0x00000007, "C_GetTokenInfo", V2_0
    C_GET_MECHANISM_LIST = 0x00000008, "C_GetMechanismList", V2_0
    C_GET_MECHANISM_INFO = 0x00000009, "C_GetMechanismInfo", V2_0
    C_INIT_TOKEN = 0x0000000A, "C_InitToken", V2_0
    C_INIT_PIN = 0x0000000B, "C_InitPIN", V2_0
    C_SET_PIN = 0x0000000C, "C_SetPIN", V2_0
    C_OPEN_SESSION = 0x0000000D, "C_OpenSession", V2_0
    C_CLOSE_SESSION = 0x0000000E, "C_CloseSession", V2_0
    C_CLOSE_ALL_SESSIONS = 0x0000000F, "C_CloseAllSessions", V2_0
    C_GET_SESSION_INFO = 0x00000010, "C_GetSessionInfo", V2_0
    C_GET_OPERATION_STATE = 0x00000011, "C_GetOperationState", V2_0
    C_SET_OPERATION_STATE = 0x00000012, "C_SetOperationState", V2_0
    C_LOGIN = 0x00000013, "C_Login", V2_0
    C_LOGOUT = 0x00000014, "C_Logout", V2_0
    C_CREATE_OBJECT = 0x00000015, "C_CreateObject", V2_0
    C_COPY_OBJECT = 0x00000016, "C_CopyObject", V2_0
    C_DESTROY_OBJECT = 0x00000017, "C_DestroyObject", V2_0
    C_GET_OBJECT_SIZE = 0x00000018, "C_GetObjectSize", V2_0
    C_GET_ATTRIBUTE_VALUE = 0x00000019, "C_GetAttributeValue", V2_0
    C_SET_ATTRIBUTE_VALUE = 0x0000001A, "C_SetAttributeValue", V2_0
    C_FIND_OBJECTS_INIT = 0x0000001B, "C_FindObjectsInit", V2_0
    C_FIND_OBJECTS = 0x0000001C, "C_FindObjects", V2_0
    C_FIND_OBJECTS_FINAL = 0x0000001D, "C_FindObjectsFinal", V2_0
    C_ENCRYPT_INIT = 0x0000001E, "C_EncryptInit", V2_0
    C_ENCRYPT = 0x0000001F, "C_Encrypt", V2_0
    C_ENCRYPT_UPDATE = 0x00000020, "C_EncryptUpdate", V2_0
    C_ENCRYPT_FINAL = 0x00000021, "C_EncryptFinal", V2_0
    C_DECRYPT_INIT = 0x00000022, "C_DecryptInit", V2_0
    C_DECRYPT = 0x00000023, "C_Decrypt", V2_0
    C_DECRYPT_UPDATE = 0x00000024, "C_DecryptUpdate", V2_0
    C_DECRYPT_FINAL = 0x00000025, "C_DecryptFinal", V2_0
    C_DIGEST_INIT = 0x00000026, "C_DigestInit", V2_0
    C_DIGEST = 0x00000027, "C_Digest", V2_0
    C_DIGEST_UPDATE = 0x00000028, "C_DigestUpdate", V2_0
    C_DIGEST_KEY = 0x00000029, "C_DigestKey", V2_0
    C_DIGEST_FINAL = 0x0000002A, "C_DigestFinal", V2_0
    C_SIGN_INIT = 0x0000002B, "C_SignInit", V2_0
    C_SIGN = 0x0000002C, "C_Sign", V2_0
    C_SIGN_UPDATE = 0x0000002D, "C_SignUpdate", V2_0
    C_SIGN_FINAL = 0x0000002E, "C_SignFinal", V2_0
    C_SIGN_RECOVER_INIT = 0x0000002F, "C_SignRecoverInit", V2_0
    C_SIGN_RECOVER = 0x00000030, "C_SignRecover", V2_0
    C_VERIFY_INIT = 0x00000031, "C_VerifyInit", V2_0
    C_VERIFY = 0x00000032, "C_Verify", V2_0
    C_VERIFY_UPDATE = 0x00000033, "C_VerifyUpdate", V2_0
    C_VERIFY_FINAL = 0x00000034, "C_VerifyFinal", V2_0
    C_VERIFY_RECOVER_INIT = 0x00000035, "C_VerifyRecoverInit", V2_0
    C_VERIFY_RECOVER = 0x00000036, "C_VerifyRecover", V2_0
    C_DIGEST_ENCRYPT_UPDATE = 0x00000037, "C_DigestEncryptUpdate", V2_0
    C_DECRYPT_DIGEST_UPDATE = 0x00000038, "C_DecryptDigestUpdate", V2_0
    C_SIGN_ENCRYPT_UPDATE = 0x00000039, "C_SignEncryptUpdate", V2_0
    C_DECRYPT_VERIFY_UPDATE = 0x0000003A, "C_DecryptVerifyUpdate", V2_0
    C_GENERATE_KEY = 0x0000003B, "C_GenerateKey", V2_0
    C_GENERATE_KEY_PAIR = 0x0000003C, "C_GenerateKeyPair", V2_0
    C_WRAP_KEY = 0x0000003D, "C_WrapKey", V2_0
    C_UNWRAP_KEY = 0x0000003E, "C_UnwrapKey", V2_0
    C_DERIVE_KEY = 0x0000003F, "C_DeriveKey", V2_0
    C_SEED_RANDOM = 0x00000040, "C_SeedRandom", V2_0
    C_GENERATE_RANDOM = 0x00000041, "C_GenerateRandom", V2_0
    C_GET_FUNCTION_STATUS = 0x00000042, "C_GetFunctionStatus", V2_0
    C_CANCEL_FUNCTION = 0x00000043, "C_CancelFunction", V2_0
    C_WAIT_FOR_SLOT_EVENT = 0x00000044, "C_WaitForSlotEvent", V2_0
    C_GET_INTERFACE_LIST = 0x00000045, "C_GetInterfaceList", V2_0
    C_GET_INTERFACE = 0x00000046, "C_GetInterface", V2_0
    C_LOGIN_USER = 0x00000047, "C_LoginUser", V2_0
    C_SESSION_CANCEL = 0x00000048, "C_SessionCancel", V2_0
    C_MESSAGE_ENCRYPT_INIT = 0x00000049, "C_MessageEncryptInit", V2_0
    C_ENCRYPT_MESSAGE = 0x0000004A, "C_EncryptMessage", V2_0
    C_ENCRYPT_MESSAGE_BEGIN = 0x0000004B, "C_EncryptMessageBegin", V2_0
    C_ENCRYPT_MESSAGE_NEXT = 0x0000004C, "C_EncryptMessageNext", V2_0
    C_MESSAGE_ENCRYPT_FINAL = 0x0000004D, "C_MessageEncryptFinal", V2_0
    C_MESSAGE_DECRYPT_INIT = 0x0000004E, "C_MessageDecryptInit", V2_0
    C_DECRYPT_MESSAGE = 0x0000004F, "C_DecryptMessage", V2_0
    C_DECRYPT_MESSAGE_BEGIN = 0x00000050, "C_DecryptMessageBegin", V2_0
    C_DECRYPT_MESSAGE_NEXT = 0x00000051, "C_DecryptMessageNext", V2_0
    C_MESSAGE_DECRYPT_FINAL = 0x00000052, "C_MessageDecryptFinal", V2_0
    C_MESSAGE_SIGN_INIT = 0x00000053, "C_MessageSignInit", V2_0
    C_SIGN_MESSAGE = 0x00000054, "C_SignMessage", V2_0
    C_SIGN_MESSAGE_BEGIN = 0x00000055, "C_SignMessageBegin", V2_0
    C_SIGN_MESSAGE_NEXT = 0x00000056, "C_SignMessageNext", V2_0
    C_MESSAGE_SIGN_FINAL = 0x00000057, "C_MessageSignFinal", V2_0
    C_MESSAGE_VERIFY_INIT = 0x00000058, "C_MessageVerifyInit", V2_0
    C_VERIFY_MESSAGE = 0x00000059, "C_VerifyMessage", V2_0
    C_VERIFY_MESSAGE_BEGIN = 0x0000005A, "C_VerifyMessageBegin", V2_0
    C_VERIFY_MESSAGE_NEXT = 0x0000005B, "C_VerifyMessageNext", V2_0
    C_MESSAGE_VERIFY_FINAL = 0x0000005C, "C_MessageVerifyFinal", V2_0


class PKCS11ReturnCode(Enumeration):
    """Return code of a PKCS#11 function (2.1, 11.39)."""

    OK = 0x00000000, "OK", V2_0
