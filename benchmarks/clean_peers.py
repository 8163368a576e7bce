"""The peers of benchmarks/clean.py, run by their own environment: python clean_peers.py WHAT FILE;
answers with JSON.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path


def main_text(items: list[str]) -> dict:
    import trafilatura

    trafilatura.extract(items[0])
    began = time.process_time()
    found = [
        trafilatura.extract(item, include_comments=False, deduplicate=False) or "" for item in items
    ]
    return {"cpu_s": time.process_time() - began, "texts": found}


def quality(items: list[str]) -> dict:
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    filters = [
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(),
        FineWebQualityFilter(),
    ]

    def all_of(text: str) -> None:
        for one in filters:  # each is asked, as our signals are all measured
            one.filter(Document(text=text, id="x"))

    all_of(items[0])
    began = time.process_time()
    for item in items:
        all_of(item)
    return {"cpu_s": time.process_time() - began}


def pii(items: list[str]) -> dict:
    from datatrove.pipeline.formatters import PIIFormatter

    formatter = PIIFormatter()
    formatter.format(items[0])
    began = time.process_time()
    for item in items:
        formatter.format(item)
    return {"cpu_s": time.process_time() - began}


def copies(items: list[str]) -> dict:
    """datatrove's four steps with its defaults (5-grams, 14 buckets of 8); items removed."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    folder = tempfile.mkdtemp()
    settings = MinhashConfig()

    def documents() -> list:
        return [Document(text=item, id=str(number)) for number, item in enumerate(items)]

    MinhashDedupSignature(output_folder=f"{folder}/warm", config=settings).run(
        iter(documents()[:2]), 0, 1
    )
    began = time.process_time()
    MinhashDedupSignature(output_folder=f"{folder}/s", config=settings).run(iter(documents()), 0, 1)
    for bucket in range(settings.num_buckets):
        MinhashDedupBuckets(
            input_folder=f"{folder}/s", output_folder=f"{folder}/b", config=settings
        ).run(None, bucket, settings.num_buckets)
    MinhashDedupCluster(
        input_folder=f"{folder}/b", output_folder=f"{folder}/r", config=settings
    ).run(None, 0, 1)
    kept = {
        document.id
        for document in MinhashDedupFilter(input_folder=f"{folder}/r").run(iter(documents()), 0, 1)
    }
    cpu = time.process_time() - began
    shutil.rmtree(folder)
    return {
        "cpu_s": cpu,
        "gone": [number for number in range(len(items)) if str(number) not in kept],
    }


if __name__ == "__main__":
    answer = {"main_text": main_text, "quality": quality, "pii": pii, "copies": copies}[
        sys.argv[1]
    ](json.loads(Path(sys.argv[2]).read_text()))
    Path(sys.argv[3]).write_text(json.dumps(answer))
