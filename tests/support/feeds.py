"""One list of entries in each form that a feed has."""

FEEDS = {
    "rss": b'<?xml version="1.0"?><rss version="2.0"><channel><link>http://a.localhost/home</link>'
    b"<item><link>http://a.localhost/p1</link><pubDate>Mon, 23 Nov 2026 10:00:00 GMT</pubDate>"
    b"</item>"
    b"<item><guid>http://a.localhost/p2</guid></item></channel></rss>",
    "atom": b'<feed xmlns="http://www.w3.org/2005/Atom"><link href="http://a.localhost/home"/>'
    b'<entry><link rel="alternate" href="/p1"/><link rel="edit" href="/edit"/>'
    b"<updated>2026-11-23T10:00:00Z</updated></entry>"
    b'<entry><link href="/p2"/></entry></feed>',
    "rdf": (
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        b'xmlns="http://purl.org/rss/1.0/"><item><link>http://a.localhost/p1</link></item><item>'
        b"<link>/p2</link></item></rdf:RDF>"
    ),
    "json": (
        b'{"version": "https://jsonfeed.org/version/1.1", "items": [{"id": "1", '
        b'"url": "http://a.localhost/p1"}, {"id": "2", "url": "/p2"}]}'
    ),
}
