"""The policy: a TOML file that says which images may be run here; what it does not allow is refused."""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mealkit.errors import MealkitError, PolicyError, RefusedError, UsageError, VerificationError

from .assembly import PACKAGES_LABEL
from .evidence import PREDICATES, Evidence
from .key import PublicKey, load_public_key, parse_public_key
from .reference import parse_reference
from .verification import Identity, good_signatures, identity_of

_TOP = ("allow", "deny")
_KEYS = ("repositories", "keys", "identities", "attestations", "bases", "builders", "kinds")
_BASE_NAME, _BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"


@dataclass(frozen=True)
class Rule:
    """One ``[[allow]]``: what an image of certain repositories must be.

    Attributes:
        repositories: Patterns of ``host/repository``; ``*`` stands for a part between slashes, ``**`` for any text.
        keys: One of them must have signed the image; none: it need not be signed.
        identities: Patterns of the repositories that a signature may name; none: the image's own.
        attestations: ``sbom``, ``provenance``: must be attached (and signed, where there are keys).
        bases: Patterns of the base's name, or its digests; none: any.
        builders: Patterns of the provenance's builder; none: any.
        kinds: Recipe kinds; none: any image.
    """

    repositories: tuple[str, ...]
    keys: tuple[PublicKey, ...] = ()
    identities: tuple[str, ...] = ()
    attestations: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    builders: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """A policy that was read.

    Attributes:
        path: Its file.
        rules: The first that has the image's repository decides.
        deny: Requirements (PEP 508 name and versions) that no image may have installed.
    """

    path: Path
    rules: tuple[Rule, ...] = ()
    deny: tuple[str, ...] = field(default=())

    def rule(self, repository: str) -> Rule:
        """The rule for a repository.

        Raises:
            RefusedError: there is none.
        """
        for rule in self.rules:
            if any(matches(pattern, repository) for pattern in rule.repositories):
                return rule
        raise RefusedError(
            f"the policy allows no image of {repository}",
            where=str(self.path),
            hint="ask who keeps the policy to allow the repository",
        )


def read_policy(path: Path) -> Policy:
    """The policy in a file.

    Raises:
        PolicyError: it is no TOML, or a key, value or public key in it is wrong; the message names it.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"the policy cannot be read: {error}", where=str(path), hint="mend it") from None
    return _Reader(path).policy(document)


def check_policy(policy: Policy, rule: Rule, evidence: Evidence) -> None:
    """Refuse an image that its rule does not allow.

    Raises:
        RefusedError: it is not allowed; the message has all reasons.
    """
    reasons = list(_reasons(policy, rule, evidence))
    if reasons:
        raise RefusedError(
            "the policy refuses the image: " + "; ".join(dict.fromkeys(reasons)),
            where=f"{evidence.url} (policy {policy.path})",
            hint="use an image that the policy allows, or ask who keeps it",
        )


def rule_identity(rule: Rule, evidence: Evidence) -> Identity:
    """For which repositories a signature may have been made, by the rule; else for the image's own."""
    if not rule.identities:
        return identity_of(evidence.repository)
    return lambda name: any(matches(pattern, name) for pattern in rule.identities)


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of the policy is one of this text: ``*`` never crosses a slash, ``**`` does."""
    parts = [".*" if part == "**" else "[^/]*" if part == "*" else re.escape(part) for part in _split(pattern)]
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def _split(pattern: str) -> list[str]:
    return re.split(r"(\*\*|\*)", pattern)


def _reasons(policy: Policy, rule: Rule, evidence: Evidence) -> Iterator[str]:
    if rule.keys:
        try:
            good_signatures(evidence, rule_identity(rule, evidence))
        except VerificationError as error:
            yield error.message
    signed = bool(rule.keys)
    for kind in rule.attestations:
        found = {digest for digest, _ in evidence.statements(kind, signed=signed)}
        wanted = {image.digest for image in evidence.images} if kind == "sbom" else {evidence.digest}
        if evidence.digest not in found and not wanted <= found:
            yield f"it has no {'signed ' if signed else ''}{kind}"
    if rule.builders:
        builders = {_builder(one.predicate) for _, one in evidence.statements("provenance", signed=signed)}
        if not any(matches(pattern, builder) for pattern in rule.builders for builder in builders):
            yield f"its builder is not allowed: {', '.join(sorted(builders)) or 'it does not tell one'}"
    if not evidence.images:
        yield "it has no image for this platform"
    for image in evidence.images:
        if rule.bases and not _base_allowed(rule.bases, image.labels):
            yield f"its base is not allowed: {image.labels.get(_BASE_NAME) or 'it does not tell one'}"
        if rule.kinds and image.kind not in rule.kinds:
            yield f"its kind is not allowed: {image.kind or 'it is no recipe'}"
    if policy.deny:
        yield from _denied(policy.deny, evidence, signed)


def _builder(predicate: Mapping[str, Any]) -> str:
    try:
        return str(predicate["runDetails"]["builder"]["id"])
    except (KeyError, TypeError):
        return ""


def _base_allowed(patterns: tuple[str, ...], labels: Mapping[str, str]) -> bool:
    name, digest = labels.get(_BASE_NAME, ""), labels.get(_BASE_DIGEST, "")
    names = {name}
    with contextlib.suppress(UsageError):  # host, oci: and docker: bases are known only by the name they were given
        names.add(str(parse_reference(name)))
    return digest in patterns or any(matches(pattern, one) for pattern in patterns for one in names if one)


def _denied(deny: tuple[str, ...], evidence: Evidence, signed: bool) -> Iterator[str]:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    found: set[tuple[str, str]] = set()
    for image in evidence.images:
        if PACKAGES_LABEL not in image.labels:
            yield "it does not tell which packages it has"
        for text in image.labels.get(PACKAGES_LABEL, "").split():
            name, _, version = text.partition("==")
            found.add((canonicalize_name(name), version))
    for _, statement in evidence.statements("sbom", signed=signed):
        found |= {(canonicalize_name(name), version) for name, version in _listed(statement.predicate)}
    for text in deny:
        requirement = Requirement(text)
        for name, version in sorted(found):
            if name != canonicalize_name(requirement.name):
                continue
            try:
                hit = requirement.specifier.contains(Version(version), prereleases=True)
            except InvalidVersion:
                hit = True
            if hit:
                yield f"it has {name} {version}, which the policy denies ({text})"


def _listed(sbom: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and versions of an SBOM's Python packages, in either format."""
    purls = [one.get("purl") for one in sbom.get("components") or () if isinstance(one, dict)]
    for package in sbom.get("packages") or ():
        references = package.get("externalRefs") if isinstance(package, dict) else None
        purls += [one.get("referenceLocator") for one in references or () if isinstance(one, dict)]
    for purl in purls:
        match = re.match(r"pkg:pypi/([^@?#]+)@([^?#]+)", str(purl))
        if match:
            yield match[1], match[2].replace("%2B", "+").replace("%21", "!")


class _Reader:
    """Checks one policy; every error names the file and the key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def policy(self, document: Mapping[str, Any]) -> Policy:
        self._known("", document, _TOP)
        rules = document.get("allow", [])
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            raise self._error("allow", "must be a list of tables", "write it as [[allow]]")
        deny = self._texts("deny", document.get("deny", []))
        for text in deny:
            self._requirement(text)
        return Policy(self.path, tuple(self._rule(f"allow[{n}]", rule) for n, rule in enumerate(rules)), deny)

    def _rule(self, name: str, rule: Mapping[str, Any]) -> Rule:
        self._known(name + ".", rule, _KEYS)
        texts = {key: self._texts(f"{name}.{key}", rule.get(key, [])) for key in _KEYS}
        if not texts["repositories"]:
            raise self._error(
                f"{name}.repositories", "must name the repositories", 'write repositories = ["host/team/*"]'
            )
        for kind in texts["attestations"]:
            if kind not in PREDICATES:
                raise self._error(f"{name}.attestations", f"unknown attestation {kind!r}", "use sbom or provenance")
        keys = tuple(self._key(f"{name}.keys", text) for text in texts.pop("keys"))
        return Rule(keys=keys, **texts)

    def _key(self, name: str, text: str) -> PublicKey:
        try:
            if text.lstrip().startswith("-----BEGIN"):
                return parse_public_key(text.encode(), f"{self.path}: {name}")
            return load_public_key(str(self.path.parent / Path(text).expanduser()))
        except MealkitError as error:
            raise self._error(name, f"{error.message}: {error.where}", error.hint or "") from error

    def _requirement(self, text: str) -> None:
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            Requirement(text)
        except InvalidRequirement:
            raise self._error("deny", f"not a requirement: {text!r}", 'write it as "name" or "name<2.0"') from None

    def _texts(self, name: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self._error(name, "must be a list of strings", f'write {name.rpartition(".")[2]} = ["…"]')
        return tuple(value)

    def _known(self, prefix: str, values: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
                raise self._error(prefix + key, f"unknown key {key!r}", hint)

    def _error(self, key: str, message: str, hint: str) -> PolicyError:
        return PolicyError(message, where=f"{self.path}: {key}", hint=hint)
