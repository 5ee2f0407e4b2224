"""What secrets look like: files that are kept for credentials, and words that can be nothing else."""

from __future__ import annotations

import re

_NAMES = re.compile(
    r"(\.env(\.(?!example$|sample$|template$).+)?|[._]netrc|\.pypirc|\.pgpass|\.git-credentials|\.htpasswd|\.dockercfg"
    r"|\.boto|\.s3cfg|\.vault-token|application_default_credentials\.json|accessTokens\.json|terraform\.tfstate(\.backup)?"
    r"|id_(rsa|dsa|ecdsa|ed25519)(_sk)?|.+\.(p12|pfx|jks|keystore|kdbx|ppk))\Z"
)
_PATHS = re.compile(r"(.*/)?(\.aws/credentials|\.docker/config\.json|\.kube/config|\.azure/.+|\.ssh/(?!.+\.pub\Z).+)\Z")
_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----")
# Only such as their issuers gave a form of their own, long enough to be no accident.
_TOKEN = re.compile(
    rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,}|glpat-[A-Za-z0-9_-]{20,}|hf_[A-Za-z]{34}"
    rb"|xox[abprs]-[0-9]{8,}-[A-Za-z0-9-]{20,}|pypi-AgE[A-Za-z0-9_-]{60,}|npm_[A-Za-z0-9]{36})(?![A-Za-z0-9_])"
)


def secret_in(path: str, data: bytes) -> str | None:
    """What kind of secret the file at ``path``, whose content is ``data``, is or holds; None: none that is known."""
    if _NAMES.match(path.rpartition("/")[2]) or _PATHS.match(path):
        return "a file for credentials"
    if _KEY.search(data):
        return "a private key"
    if _TOKEN.search(data):
        return "an access token"
    return None
