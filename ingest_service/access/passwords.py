"""Passwords as Argon2id hashes, RFC 9106 section 4, second recommended option: t=3, m=64 MiB, p=4, 128-bit salt."""

from __future__ import annotations

from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shopfloor.errors import Permanent

LONGEST: Final = 1024
"""Characters; a longer text is no password of anybody."""
_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
_NOBODYS: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$WzCP75KRY3ICBhRndRHvfA$Rip+Ijmvl6gMaj6MLfAoe9CLi/21uNehEHc8DD4zIYI"
)
"""What a password is compared with where there is no such user: the same work, and no text that fits is known."""


class WeakPassword(Permanent):
    """Such a password is not taken; the text says why."""


def check_strength(password: str, user: str, shortest: int) -> None:
    """Refuse a password that is too short, or that everybody would try.

    Length is what counts, not kinds of characters (NIST SP 800-63B section 3.1.1.2).

    Raises:
        WeakPassword: it is shorter than ``shortest`` characters, too long, one repeated, or holds the user's name.
    """
    if len(password) < shortest:
        raise WeakPassword(f"a password has at least {shortest} characters")
    if len(password) > LONGEST:
        raise WeakPassword(f"a password has at most {LONGEST} characters")
    if len(set(password)) < 4:
        raise WeakPassword("a password has more than three different characters")
    if user.lower() in password.lower():
        raise WeakPassword("a password does not hold the user's name")


def hash_password(password: str) -> str:
    """Return the hash to keep, salt and parameters within; takes tens of milliseconds."""
    return _HASHER.hash(_bytes(password))


def verify(password: str, hashed: str | None) -> bool:
    """Tell whether a password is the one; None for no such user takes as long as a wrong password."""
    try:
        _HASHER.verify(hashed or _NOBODYS, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False
    return hashed is not None


def is_outdated(hashed: str) -> bool:
    """Tell whether a hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(hashed)


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")
