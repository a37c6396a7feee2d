"""Protocol versions. A version is one number, ten times the major plus the minor: versions compare and index."""

from typing import NewType

Version = NewType("Version", int)

V1_0 = Version(10)
V1_1 = Version(11)
V1_2 = Version(12)
V1_3 = Version(13)
V1_4 = Version(14)
V2_0 = Version(20)
V2_1 = Version(21)

#: Newest first, as Discover Versions answers them (2.1, 6.1.20).
VERSIONS: tuple[Version, ...] = (V2_1, V2_0, V1_4, V1_3, V1_2, V1_1, V1_0)
