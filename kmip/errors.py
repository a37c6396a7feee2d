"""The one exception that a client sees; how its reason is spelled for a version and an operation is in `reasons`."""

from kmip.enums import ResultReason, ResultStatus


class KMIPError(Exception):
    """A request, or one item of it, fails with a result reason and a message that the caller can act on (2.1, 7.26)."""

    def __init__(
        self, reason: ResultReason, message: str, *, status: ResultStatus = ResultStatus.OPERATION_FAILED
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.status = status


class UnfitError(KMIPError):
    """What the caller asked for cannot be, though published cases call it General Failure: no fault of the server's."""

    def __init__(self, message: str) -> None:
        super().__init__(ResultReason.GENERAL_FAILURE, message)
