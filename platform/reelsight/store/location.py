"""Where runs lie, as people write it: a directory, or `s3://bucket/prefix`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from reelsight.errors import StoreError
from reelsight.redaction import redacted

__all__ = ["Location", "S3Place", "is_s3", "told"]

# A Path makes one slash of two: an address is text, a directory may be either.
Location: TypeAlias = Path | str

_S3 = "s3://"
_QUERY = {"endpoint_override", "scheme", "region"}


def is_s3(location: Location) -> bool:
    """Whether it is an address of S3."""
    return isinstance(location, str) and location.startswith(_S3)


def told(location: Location, *below: str) -> str:
    """A location for people, without secrets, and what lies below it."""
    if is_s3(location):
        return "/".join([redacted(str(location)).rstrip("/"), *below])
    return str(Path(location, *below))


@dataclass(frozen=True, slots=True)
class S3Place:
    """A prefix of a bucket, and who asks for it where.

    Attributes:
        bucket: Its name.
        prefix: What every key begins with, without slashes around it; may be empty.
        endpoint: Address of the server; None for AWS's own.
        region: None for what the environment says.
        access_key: None for what AWS's own tools would take.
        secret_key: To it.
    """

    bucket: str
    prefix: str
    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return "/".join(part for part in (f"{_S3}{self.bucket}", self.prefix) if part)

    @classmethod
    def parse(cls, text: str) -> S3Place:
        """`s3://[KEY:SECRET@]BUCKET[/PREFIX][?endpoint_override=HOST&scheme=http&region=NAME]`.

        Raises:
            StoreError: `store.bad_location`: it is not like that.
        """
        parts = urlsplit(text)
        user, _, bucket = parts.netloc.rpartition("@")
        key, _, secret = map(unquote, user.partition(":"))
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(set(query) - _QUERY)
        if not bucket or bool(key) != bool(secret) or unknown or parts.fragment:
            raise StoreError(
                f"{redacted(text)} is no place for runs"
                + (f": {', '.join(unknown)} is not known" if unknown else ""),
                code="store.bad_location",
                hint="Write s3://BUCKET/PREFIX; ?endpoint_override=HOST:PORT&scheme=http&region="
                "NAME may follow.",
            )
        host = query.get("endpoint_override")
        return cls(
            bucket,
            unquote(parts.path).strip("/"),
            f"{query.get('scheme', 'https')}://{host}" if host else None,
            query.get("region"),
            key or None,
            secret or None,
        )
