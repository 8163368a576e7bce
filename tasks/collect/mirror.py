"""A loopback web server over a package's members: a real site, and nobody's burden."""

import hashlib
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import PurePosixPath
from xml.sax.saxutils import escape

from aiohttp import web

from tidemill.engines.config.schema import Mirror
from tidemill.engines.packages.fetch import fetch
from tidemill.records.archive import members
from tidemill.runtime.errors import Refused


@asynccontextmanager
async def served(mirror: Mirror) -> AsyncIterator[int]:
    """Serve the members while the block runs; yields the port on 127.0.0.1.

    /robots.txt allows everything, asks for no delay and names /sitemap.xml, which lists every
    member.
    """
    app = web.Application()
    app.router.add_get("/{name}", _answering(mirror))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, "127.0.0.1", mirror.port).start()
        except OSError as error:
            raise Refused(
                f"the mirror's port {mirror.port} on 127.0.0.1 is in use or not ours; "
                "set mirror.port: 0 for a free one, or end what holds it"
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _answering(mirror: Mirror) -> Callable[[web.Request], Awaitable[web.Response]]:
    """What answers for the members, and for the two files of the site itself."""
    bodies = {
        PurePosixPath(name).name: body
        for name, body in members(fetch(mirror.package), mirror.members)
    }
    tags = {name: f'"{hashlib.sha256(body).hexdigest()[:32]}"' for name, body in bodies.items()}
    site = f"http://{mirror.host}"
    places = "".join(f"<url><loc>{escape(f'{site}/{name}')}</loc></url>" for name in bodies)
    bodies["robots.txt"] = (
        f"User-agent: *\nAllow: /\nCrawl-delay: 0\nSitemap: {site}/sitemap.xml\n".encode()
    )
    bodies["sitemap.xml"] = (
        '<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        f"{places}</urlset>".encode()
    )

    async def answer(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in bodies:
            return web.Response(status=404, text="no such page\n")
        headers = {"ETag": tags[name]} if name in tags else {}
        if name in tags and request.headers.get("If-None-Match") == tags[name]:
            return web.Response(status=304, headers=headers)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return web.Response(body=bodies[name], headers={**headers, "Content-Type": kind})

    return answer
