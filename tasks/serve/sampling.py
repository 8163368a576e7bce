"""Served questions, sampled by policy, for drift: digests, lengths and scores.

The words themselves only where the recipe says keep_text.

data/served/APPLICATION/DAY/*.parquet, each file written whole.
"""

import json
import logging
import os
import threading
import time
from datetime import UTC, datetime
from typing import TypedDict

from pydantic import BaseModel

from tasks.serve.loaded_model import LoadedModel, share_of
from tidemill.contract import noted
from tidemill.engines.config.schema import Serve
from tidemill.runtime import paths
from tidemill.runtime.files import aside, digest

log = logging.getLogger(__name__)
ROWS, SECONDS = 500, 30.0  # a file is written after so many rows, or so long


class NotedRow(TypedDict):
    """A served question as it is noted: a row of data/served/APPLICATION."""

    at: str  # UTC, ISO 8601
    version: str
    question_digest: str
    noted: str  # JSON: column to value, of question and answer
    question: str | None  # JSON; where serve.keep_text says so, as the answer
    answer: str | None


class Sampler:
    def __init__(self, application: str, settings: Serve) -> None:
        self.application, self.settings = application, settings
        self.rows: list[NotedRow] = []
        self.began = time.monotonic()
        self.number = 0
        self.writing = threading.Lock()

    def sample(
        self, model: LoadedModel, questions: list[BaseModel], answers: list[BaseModel]
    ) -> None:
        for question, answer in zip(questions, answers, strict=True):
            asked = question.model_dump(mode="json", exclude_unset=True)
            known = digest(asked)
            if share_of(known.encode()) >= self.settings.sample:
                continue
            text = self.settings.keep_text
            self.rows.append(
                {
                    "at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "version": model.version,
                    "question_digest": known,
                    "noted": json.dumps(noted(model.recipe, question, answer), ensure_ascii=False),
                    "question": json.dumps(asked, ensure_ascii=False) if text else None,
                    "answer": answer.model_dump_json() if text else None,
                }
            )
        if len(self.rows) >= ROWS or (self.rows and time.monotonic() - self.began > SECONDS):
            rows, self.rows = self.rows, []
            self.began = time.monotonic()
            threading.Thread(target=self._write, args=(rows,), daemon=True).start()

    def flush(self) -> None:
        rows, self.rows = self.rows, []
        if rows:
            self._write(rows)

    def _write(self, rows: list[NotedRow]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([(name, pa.string()) for name in rows[0]])
        with self.writing:
            self.number += 1
            path = (
                paths.data("served", self.application)
                / rows[0]["at"][:10]
                / f"{int(time.time())}-{os.getpid()}-{self.number}.parquet"
            )
            try:
                with aside(path) as part:
                    pq.write_table(pa.Table.from_pylist(rows, schema=schema), part)
            except OSError as error:
                log.warning(
                    "%d served questions of %s could not be noted: %s",
                    len(rows),
                    self.application,
                    error,
                )
