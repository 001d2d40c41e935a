"""The errors of the package: each says what was expected, what came, and what to do about it."""

from __future__ import annotations


class KarpError(Exception):
    """Base of every error the package raises on purpose."""


class InvalidInput(KarpError, ValueError):
    """Data that cannot be what it claims to be: a wrong shape, an impossible field, a truncated image.

    Raised where data enters (messages, files) and where a core type is built. Nodes count it under `reason`
    and drop the one message; nothing else is lost.

    Args:
        subject: what was being read, e.g. "PointCloud2 field 'x'".
        expected: what would have been right.
        got: what came instead.
        advice: what the user can do, if it is not obvious.
        reason: the short key it is counted under, lower_snake_case.
    """

    def __init__(
        self, subject: str, expected: str, got: object, advice: str = "", *, reason: str = "invalid_input"
    ) -> None:
        self.subject, self.expected, self.got, self.advice, self.reason = subject, expected, got, advice, reason
        message = f"{subject}: expected {expected}, got {got}"
        super().__init__(f"{message}; {advice}" if advice else message)


class ConfigurationError(KarpError, ValueError):
    """A setting that does not exist, has the wrong type or lies outside its range."""


class MissingTransform(KarpError, LookupError):
    """No chain of transforms joins two frames at a time; the message names the frames and what is known of them."""


class BagError(KarpError):
    """A recording that cannot be opened, or holds nothing that can be used."""


class BackendUnavailable(KarpError):
    """An inference backend that is not installed here or does not support this machine."""
