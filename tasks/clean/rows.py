"""The rows of cleaning's tables, and what its children are asked and answer, field by field."""

from typing import NotRequired, TypedDict

from tasks.clean.part import KnownBy


class Record(TypedDict):
    """What a reader is told of a record beside its bytes."""

    uri: str
    media: str | None
    charset: str | None  # as the server declared it


class TextMeasures(TypedDict):
    """What is counted in a document's text."""

    script: str
    letters: int
    chars: int
    words: int
    letter_script: str
    language_found: str
    language_score: float
    languages: str  # JSON: the languages of a text of several, with their shares
    quality: str  # JSON: the signals of tasks/clean/quality.py


class Document(TextMeasures):
    """A row of documents.parquet."""

    doc_id: str
    uri: str
    source: str
    host: str
    kind: str
    part: str
    media: str | None
    language: str
    original: str
    text: str
    payload: bytes | None  # in documents.parquet only where it is a table's row
    blob: NotRequired[str]  # there instead of it: the sha256 of what lies in a pack
    attributes: str  # JSON
    pii: str  # JSON: what was marked, by kind
    digest: str
    licence: NotRequired[str]  # of the source: not yet known to whoever reads the record
    opt_out: NotRequired[str]
    # These are of lineage.parquet alone: its address by where it stands in its record, and its id
    # if it were known by its content.
    place: NotRequired[str]
    content_id: NotRequired[str]
    known_by: NotRequired[KnownBy]  # these are no columns, and gone once its id is final
    null_key: NotRequired[bool]
    unnamed: NotRequired[bool]  # its address has its id in the place of a name
    unread: NotRequired[str]  # why nothing could be read; no column


class DroppedDocument(TypedDict):
    """A row of dropped.parquet."""

    doc_id: str
    uri: str
    reason: str
    text: str  # its beginning


class Origin(TypedDict):
    """A row of lineage.parquet: the record that a document was cut from."""

    doc_id: str
    uri: str
    fetched: str
    raw_file: str
    raw_locator: str
    raw_digest: str
    place: str
    content_id: str


class Content(TypedDict, total=False):
    """What was read of a record: its documents, or a page until its host is known."""

    documents: list[Document]
    unread: str  # why a page could not be read; then it has nothing else
    title: str
    language: str
    blocks: list[tuple[str, bool]]  # text, whether it is of links
    found: dict[str, dict[str, int]]  # what was personal, by kind, of a block by its place


class MessageHead(TypedDict, total=False):
    """What goes before the bytes of a message between cleaning and its children."""

    settings: str  # of the first message: the source as JSON
    row: Record
    size: int  # how many of the bytes are the record's
    beside: dict[str, tuple[int, int]]  # records that it is read with: from where to where
    cut: tuple[int, ...]  # of a page that was read before: the blocks that are its host's
    marks: int  # of an answer: how many of its bytes are a page's marks
