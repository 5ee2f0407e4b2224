"""Admission: whether an image may be used here, by keys that the user names and by the policy of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mealkit.errors import RefusedError

from .evidence import PREDICATES, Evidence, gather
from .key import PublicKey
from .location import open_location
from .platform import Platform
from .policy import Policy, check_policy, read_policy, rule_identity
from .reference import EngineLocation, parse_location
from .signature import Signature
from .verification import Identity, any_identity, good_signatures, identity_of


@dataclass(frozen=True)
class Admitted:
    """An image that passed.

    Attributes:
        url: By digest: what was judged, and so what to run.
        signatures: Those that count, by the named keys or by the policy's.
        attestations: ``sbom`` and ``provenance``, as far as they are attached; true where one of the keys signed it.
        policy: The policy that allowed it; empty where there is none.
    """

    url: str
    signatures: tuple[Signature, ...]
    attestations: Mapping[str, bool]
    policy: str = ""

    def to_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        signatures = [
            {"form": one.form, "key": one.key.id, "key_name": one.key.name, "identity": one.identity}
            for one in self.signatures
        ]
        return {
            "url": self.url,
            "signatures": signatures,
            "attestations": [{"kind": kind, "signed": signed} for kind, signed in self.attestations.items()],
            "policy": self.policy or None,
        }


def admit(
    url: str,
    environment: Mapping[str, str],
    *,
    keys: Sequence[PublicKey] = (),
    identities: Sequence[str] = (),
    policy: Policy | None = None,
    platform: Platform | None = None,
) -> Admitted:
    """Check an image's signatures against keys, then the image against a policy; either may be missing.

    Args:
        url: The image; a tag is resolved once.
        environment: For credentials.
        keys: One of them must have signed the image.
        identities: Repositories that the signature may name; none: the image's own (any, for a layout folder, which
            has no name of its own).
        policy: What this machine allows.
        platform: Only this image of several.

    Raises:
        VerificationError: there is no good signature by one of ``keys``.
        RefusedError: the policy does not allow the image.
        NotFoundError: there is no such image.
    """
    place, location = open_location(url, environment)
    try:
        rule = policy.rule(place.name) if policy is not None else None
        trusted = tuple(dict.fromkeys((*keys, *(rule.keys if rule else ()))))
        evidence = gather(place, location, trusted, platform)
        good: tuple[Signature, ...] = ()
        if keys:
            wanted = _only(evidence, keys)
            good = good_signatures(wanted, _identity(wanted, identities))
        if policy is not None and rule is not None:
            allowed = _only(evidence, rule.keys)
            check_policy(policy, rule, allowed)
            if rule.keys:
                good = tuple(dict.fromkeys((*good, *good_signatures(allowed, rule_identity(rule, allowed)))))
        attested = {}
        for kind in PREDICATES:
            if any(evidence.statements(kind, signed=False)):
                attested[kind] = any(evidence.statements(kind, signed=True))
        return Admitted(evidence.url, good, attested, str(policy.path) if policy is not None else "")
    finally:
        place.close()


def admit_by_policy(url: str, environment: Mapping[str, str], path: Path, platform: Platform | None = None) -> str:
    """The URL by digest of an image that the policy in a file allows.

    Raises:
        RefusedError: the policy does not allow the image.
        PolicyError: the policy is wrong; nothing is allowed then.
    """
    if isinstance(parse_location(url), EngineLocation):
        raise RefusedError(
            "an image in the local engine has no signature that a policy could check",
            where=f"{url} (policy {path})",
            hint="name it in its registry, or in a layout folder",
        )
    return admit(url, environment, policy=read_policy(path), platform=platform).url


def _only(evidence: Evidence, keys: Sequence[PublicKey]) -> Evidence:
    """The evidence as it looks to someone who trusts only these keys."""
    attached = {
        digest: replace(
            one,
            signatures=tuple(signature for signature in one.signatures if signature.key in keys),
            attestations=tuple(
                attestation if attestation.key in keys else replace(attestation, key=None)
                for attestation in one.attestations
            ),
            strangers=one.strangers + sum(signature.key not in keys for signature in one.signatures),
        )
        for digest, one in evidence.attached.items()
    }
    return replace(evidence, attached=attached)


def _identity(evidence: Evidence, identities: Sequence[str]) -> Identity:
    if identities:
        return identity_of(*identities)
    return any_identity if evidence.repository.startswith("oci:") else identity_of(evidence.repository)
