"""What settings name beside table and bus: the queue for dead letters, the bucket, the port.

S3's answer for a bucket of another region:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from ddbrelay.aws.errors import translate
from ddbrelay.aws.letter_queue import LetterQueue
from ddbrelay.checkup.asking import Answer, asked, refused
from ddbrelay.checkup.findings import Area, Finding, Subject
from ddbrelay.errors import ConfigError
from ddbrelay.flow.change import Origin
from ddbrelay.flow.offloading import place_of
from ddbrelay.mappings import in_force

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.config import Config

AREA = Area("settings")
_NO_DEFAULTS = (
    'a first rule switches off all default events; preset = "crud" makes them of the rest'
)
_NO_BUCKET = frozenset({"404", "NoSuchBucket"})
_NO_QUEUE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})


@dataclass(frozen=True)
class Bucket:
    """A bucket for claim checks; `region` None where S3 does not say, `denied` who may not look."""

    name: str
    exists: bool = True
    region: str | None = None
    denied: bool = False


def judge_mapping(config: Config) -> Finding:
    """Which mapping is in force; that a first rule switches off all default events surprises."""
    words = in_force(config)
    if config.mapping.rules and config.settings.preset is None:
        return AREA.note("mapping", words, _NO_DEFAULTS)
    return AREA.ok("mapping", words)


def judge_table(config: Config) -> list[Finding]:
    """Whether the file is about this table: whatever sends refuses one that was only found."""
    table, theirs = config.settings.table, config.table_in_file
    if config.named or theirs in {None, table}:
        return []
    words = f'{config.file} was found and is about the table "{theirs}"'
    why = "whatever sends or makes something refuses it, unless --config names it on purpose"
    return [AREA.error("table", words, why)]


def look_at_queue(aws: Aws, queue: str, consumer: str, table: str) -> Answer[bool]:
    """Whether the queue for copies of dead letters is there, as the relay itself looks at it."""

    def ask() -> bool:
        origin = Origin(table, f"arn:aws:dynamodb:{aws.region}::table/{table}/stream/")
        asyncio.run(LetterQueue.open(aws, queue, consumer, origin))
        return True

    return asked(ask, f"look at the queue {queue}")


def judge_queue(subject: Subject, queue: str, answer: Answer[bool]) -> list[Finding]:
    """Whether dead letters can be copied to their queue."""
    if answer.value:
        return [AREA.ok("dead-letter-queue", f"{queue} takes copies of dead letters")]
    refusal = answer.refusal
    assert refusal is not None
    why = "the relay does not start without it"
    if answer.code in _NO_QUEUE:
        name = queue.rstrip("/").rpartition("/")[2]
        mend = subject.create_queue(name)
        return [AREA.error("dead-letter-queue", refusal.message, why, mend)]
    if isinstance(refusal, ConfigError):
        return [AREA.error("dead-letter-queue", refusal.message, why, refusal.hint)]
    return [refused(AREA, "dead-letter-queue", answer, emulated=False, needed=True)]


def look_at_bucket(aws: Aws, address: str) -> Answer[Bucket]:
    """The bucket of `s3://bucket/prefix`."""
    name, _ = place_of(address)

    def ask() -> Bucket:
        try:
            said = aws.client("s3").head_bucket(Bucket=name)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            region = headers.get("x-amz-bucket-region")
            if code in _NO_BUCKET:
                return Bucket(name, exists=False)
            if code in {"403", "301"}:
                return Bucket(name, region=region, denied=code == "403")
            raise translate(error, f"look at the bucket {name} (s3:ListBucket)") from error
        return Bucket(name, region=said.get("BucketRegion"))

    return asked(ask, f"look at the bucket {name}")


def judge_bucket(subject: Subject, address: str, answer: Answer[Bucket]) -> list[Finding]:
    """Whether claim checks can be written, and near by."""
    if answer.value is None:
        return [refused(AREA, "claim-check", answer, emulated=False, needed=True)]
    seen = answer.value
    if not seen.exists:
        words = f"the bucket {seen.name} does not exist"
        mend = subject.aws_cli(f"s3 mb s3://{seen.name}")
        return [AREA.error("claim-check", words, "the relay does not start without it", mend)]
    if seen.region and seen.region != subject.region:
        words = f"the bucket {seen.name} is in {seen.region}, the table in {subject.region}"
        why = "every claim check crosses regions: slower, and the transfer is billed"
        return [AREA.warning("claim-check", words, why, "another --claim-check")]
    if seen.denied:
        words = f"not allowed to look at the bucket {seen.name} (s3:ListBucket)"
        return [AREA.note("claim-check", words, "writing may be allowed all the same")]
    return [AREA.ok("claim-check", f"details that are too large go to {address}")]


def port_is_free(host: str, port: int) -> bool:
    """Whether a server can listen there now."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(address)
    except OSError:
        return False
    return True


def judge_port(host: str, port: int, *, free: bool, relaying: bool | None) -> list[Finding]:
    """Whether metrics can be served; a relay that runs has the port already.

    `relaying` is None where it is not known whether one does.
    """
    if free:
        return [AREA.ok("metrics-port", f"{host}:{port} is free")]
    if relaying:
        return [AREA.ok("metrics-port", f"{host}:{port} is in use, and a relay runs")]
    words = f"{host}:{port} cannot be listened on: it is in use, or not an address of this machine"
    mend = "another --metrics-port"
    if relaying is None:
        why = "the relay does not start, unless it runs already and has it"
        return [AREA.warning("metrics-port", words, why, mend)]
    return [AREA.error("metrics-port", words, "the relay does not start", mend)]
