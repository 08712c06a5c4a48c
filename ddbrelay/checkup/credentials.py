"""Who asks, and for how long.

https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html takes no permission.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddbrelay.aws.errors import credentials_refused
from ddbrelay.checkup.asking import Answer, asked, refused
from ddbrelay.checkup.findings import Area, Finding, Subject, hours
from ddbrelay.infra.calls import call

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws

AREA = Area("credentials")
_SOON = 15 * 60
_SHOWN = 4
_STATIC = frozenset({"env", "shared-credentials-file", "config-file", "explicit"})
"""Where botocore finds keys that nothing renews."""
_FROM = {
    "env": "the environment",
    "shared-credentials-file": "~/.aws/credentials",
    "config-file": "~/.aws/config",
    "explicit": "the command",
    "iam-role": "the instance's role",
    "container-role": "the container's role",
    "assume-role": "an assumed role",
    "assume-role-with-web-identity": "a web identity",
    "sso": "IAM Identity Center",
    "custom-process": "a program (credential_process)",
}


@dataclass(frozen=True)
class Keys:
    """What may be told of the credentials in use.

    `tail` are the last 4 characters of the access key's id, `left` the seconds until they end, None
    where that is not known; `temporary` says that they end.
    """

    method: str
    tail: str
    temporary: bool
    left: float | None = None

    @property
    def renewed(self) -> bool:
        """Whether botocore gets new ones by itself."""
        return self.method not in _STATIC


def keys_of(credentials: Any, now: float) -> Keys:
    """From botocore's credentials; AwsRefused or ConfigError where they cannot be renewed."""
    try:
        frozen = credentials.get_frozen_credentials()
    except Exception as error:
        raise credentials_refused(error) from error
    ends = getattr(credentials, "_expiry_time", None)
    return Keys(
        str(getattr(credentials, "method", "")),
        str(frozen.access_key or "")[-_SHOWN:],
        bool(frozen.token),
        None if ends is None else ends.timestamp() - now,
    )


def caller(aws: Aws) -> Answer[dict[str, Any]]:
    """Account, Arn and UserId of who asks."""
    doing = "ask who the credentials are of"
    return asked(lambda: call(aws.client("sts"), "get_caller_identity", doing), doing)


def judge(subject: Subject, keys: Answer[Keys], identity: Answer[dict[str, Any]]) -> list[Finding]:
    """Whether AWS knows who asks; nothing else can be asked where this ends with an error."""
    if keys.value is None:
        refusal = keys.refusal
        assert refusal is not None
        return [AREA.error("found", refusal.message, "no call to AWS is possible", refusal.hint)]
    if subject.local:
        return [AREA.ok("found", "the embedded AWS takes any credentials")]
    found = [*_ending(subject, keys.value)]
    if identity.value is None:
        return [refused(AREA, "identity", identity, emulated=subject.emulated), *found]
    arn, account = str(identity.value.get("Arn")), identity.value.get("Account")
    who = arn.split(":", 5)[-1]
    source = _FROM.get(keys.value.method, keys.value.method or "an unknown source")
    words = f"{who} of account {account}, key …{keys.value.tail} from {source}"
    return [AREA.ok("identity", words), *_root(who, subject), *found]


def _root(who: str, subject: Subject) -> list[Finding]:
    if who != "root" or subject.emulated:
        return []
    why = "it may do everything, so nothing here tells what the relay's own role may do"
    return [AREA.warning("root", "these are the keys of the account's root user", why)]


def _ending(subject: Subject, keys: Keys) -> list[Finding]:
    profile = subject.settings.profile
    again = f"aws sso login{f' --profile {profile}' if profile else ''}"
    mend = again if keys.method == "sso" else "get new ones from where these come from"
    if keys.left is not None and keys.left <= 0:
        return [AREA.error("ending", "the credentials have ended", "AWS refuses them", mend)]
    if keys.renewed or not keys.temporary:
        return []
    why = "a relay that runs longer than they do stops, and goes on where it was when restarted"
    if keys.left is not None and keys.left < _SOON:
        words = f"the credentials end in {hours(keys.left)} and nothing renews them"
        return [AREA.warning("ending", words, why, mend)]
    return [AREA.note("ending", "the credentials are temporary and nothing renews them", why)]
