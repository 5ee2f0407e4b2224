"""Verification: whether an image has a signature that counts, and if not, why, in words that help."""

from __future__ import annotations

from collections.abc import Callable

from mealkit.errors import VerificationError

from .evidence import Evidence
from .signature import Signature

Identity = Callable[[str], bool]
"""Whether a signature may have been made for the repository of this name."""


def identity_of(*names: str) -> Identity:
    """Signatures made for one of these repositories."""
    wanted = {_normal(name) for name in names}
    return lambda name: _normal(name) in wanted


def any_identity(name: str) -> bool:
    """Signatures made for whatever repository, or for none."""
    return True


def good_signatures(evidence: Evidence, identity: Identity) -> tuple[Signature, ...]:
    """The signatures that count: of exactly this digest, by one of the keys, for this repository.

    Raises:
        VerificationError: there is none.
    """
    good = tuple(one for one in evidence.own.signatures if one.digest == evidence.digest and identity(one.identity))
    if not good:
        raise _refusal(evidence)
    return good


def _refusal(evidence: Evidence) -> VerificationError:
    """The error for an image without a good signature: the nearest miss is told."""
    own = evidence.own
    of_this = [one for one in own.signatures if one.digest == evidence.digest]
    if of_this:
        named = of_this[0].identity or "no repository"
        message = f"the image was signed for {named}, not for {evidence.repository}"
        hint = "sign it here, or, if it may come from there, name that repository with --identity or in the policy"
    elif own.signatures:
        message = f"the signature is of another image: {own.signatures[0].digest or 'none'}"
        hint = "somebody moved a signature here: do not use this image"
    elif own.strangers:
        message = "no signature of the image is by a key that is trusted here, or it was changed since"
        hint = "ask who signed it; name that key with --key, or in the policy"
    elif own.broken:
        message = f"the image's signature cannot be read: {own.broken[0]}"
        hint = "sign the image again"
    else:
        message = "the image is not signed"
        hint = f"mealkit sign {evidence.url} --key FILE; a signature of an index is not one of the images in it"
    return VerificationError(message, where=evidence.url, hint=hint)


def _normal(name: str) -> str:
    """Docker Hub has two names; cosign writes the longer one."""
    return name.removeprefix("index.")
