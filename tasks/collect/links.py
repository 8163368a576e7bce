"""What one HTML page says to a crawler: its links, what it is a copy of, how it may be used."""

import hashlib
import re
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser

from tasks.collect import charset, urls

HTML = ("text/html", "application/xhtml+xml")
REFRESH = re.compile(r"""\s*\d+(?:\.\d*)?\s*[;,\s]\s*(?:url\s*=\s*)?["']?([^"'\s]+)""", re.IGNORECASE)
MOST_LINKS = 5_000      # of one page; more is no page a person reads


@dataclass
class Page:
    """A page as a crawler reads it; addresses are canonical."""

    links: list[str] = field(default_factory=list)
    metas: list[tuple[str, str]] = field(default_factory=list)
    canonical: str | None = None
    refresh: str | None = None
    licences: list[str] = field(default_factory=list)      # RSL documents
    text: str = ""                                         # the digest of its words


def read(body: bytes, uri: str, header: str | None, token: str, follow: bool) -> Page:
    """Read a page once for all that is asked of it. Without `follow` its links are left alone."""
    try:
        tree = LexborHTMLParser(body.decode("utf-8") if header is None or header.lower() in ("utf-8", "utf8") else charset.decode(body, header))
    except UnicodeDecodeError:
        tree = LexborHTMLParser(charset.decode(body, header))
    except ValueError:
        return Page(text=hashlib.sha256(body).hexdigest())
    page, base = Page(), uri
    if tree.head is not None:
        for node in tree.head.css("base[href], meta[name], meta[http-equiv], link[rel]"):
            about = node.attributes
            if node.tag == "base":
                base = urls.joined(uri, about.get("href") or "") or base
            elif node.tag == "meta" and about.get("name"):
                page.metas.append((str(about["name"]), about.get("content") or ""))
            elif node.tag == "meta" and (about.get("http-equiv") or "").lower() == "refresh":
                found = REFRESH.match(about.get("content") or "")
                page.refresh = urls.joined(base, found.group(1)) if found else None
            elif node.tag == "link":
                rel = (about.get("rel") or "").lower().split()
                if "canonical" in rel and page.canonical is None:
                    page.canonical = urls.joined(base, about.get("href") or "")
                if "license" in rel and (about.get("type") or "").lower() == "application/rsl+xml":
                    page.licences += [there] if (there := urls.joined(base, about.get("href") or "")) else []
    said = {word for name, value in page.metas if name.lower() in ("robots", token.lower()) for word in re.split(r"[,\s]+", value.lower())}
    if follow and not said & {"nofollow", "none"}:
        page.links = _links(tree, base)
    page.text = digest(tree)
    return page


def _links(tree: LexborHTMLParser, base: str) -> list[str]:
    """The addresses a page leads to, each once; what is marked nofollow is not followed."""
    seen: dict[str, None] = {}
    for node in tree.css("a[href], area[href]"):
        about = node.attributes
        href = about.get("href")
        if not href or href[0] == "#" or href[:11].lower() in ("javascript:", "mailto:"):
            continue
        rel = about.get("rel")
        if rel and "nofollow" in rel.lower().split():
            continue
        seen[href.partition("#")[0]] = None
        if len(seen) >= MOST_LINKS:
            break
    return list(dict.fromkeys(there for href in seen if (there := urls.joined(base, href))))


def digest(tree: LexborHTMLParser) -> str:
    """The digest of a page's words: what a reader would call a change. Scripts and styles are left out."""
    if tree.body is None:
        return ""
    tree.strip_tags(["script", "style", "noscript", "template"])
    return hashlib.sha256(" ".join(tree.body.text(separator=" ").split()).encode("utf-8", "replace")).hexdigest()[:32] if tree.body is not None else ""
