"""Cases of robots.txt, each with an agent's token, a path and whether it is allowed."""

RFC = (
    "User-Agent: *\nDisallow: *.gif$\nDisallow: /example/\nAllow: /publications/\n\n"
    "User-Agent: foobot\nDisallow:/\nAllow:/example/page.html\nAllow:/example/allowed.gif\n\n"
    "User-Agent: barbot\nUser-Agent: bazbot\nDisallow: /example/page.html\n\n"
    "User-Agent: quxbot\n\nEOF"
)  # RFC 9309, 5.1

LONGEST = "User-Agent: foobot\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif\n"

CASES = [  # robots.txt, token, path, allowed
    (RFC, "anybot", "/", True),
    (RFC, "anybot", "/a.gif", False),
    (RFC, "anybot", "/a.gif?x", True),
    (RFC, "anybot", "/example/x", False),
    (RFC, "anybot", "/publications/", True),
    (RFC, "foobot", "/", False),
    (RFC, "foobot", "/example/page.html", True),
    (RFC, "foobot", "/example/allowed.gif", True),
    (RFC, "foobot", "/example/other", False),
    (RFC, "FooBot", "/", False),
    (RFC, "barbot", "/example/page.html", False),
    (RFC, "bazbot", "/example/page.html", False),
    (RFC, "barbot", "/example/", True),
    (RFC, "quxbot", "/example/", True),
    (LONGEST, "foobot", "/example/page/", True),
    (LONGEST, "foobot", "/example/page/disallowed.gif", False),
    (LONGEST, "foobot", "/example/page/disallowed.gif.bak", False),
    ("User-agent: *\nDisallow: /\nAllow: /\n", "t", "/x", True),
    ("User-agent: *\nAllow: /p\nDisallow: /p\n", "t", "/p", True),
    ("User-agent: *\nDisallow: /p\nAllow: /p\n", "t", "/p", True),
    ("User-agent: *\nDisallow:\n", "t", "/x", True),
    ("", "t", "/x", True),
    ("# only words\n", "t", "/x", True),
    ("Disallow: /\n", "t", "/x", True),
    ("User-agent: *\nDisallow: /\n", "t", "/robots.txt", True),
    ("User-agent: *\nDisallow: /fish\n", "t", "/fish", False),
    ("User-agent: *\nDisallow: /fish\n", "t", "/fish.html", False),
    ("User-agent: *\nDisallow: /fish\n", "t", "/Fish", True),
    ("User-agent: *\nDisallow: /fish\n", "t", "/catfish", True),
    ("User-agent: *\nDisallow: /fish*\n", "t", "/fishheads/x", False),
    ("User-agent: *\nDisallow: /fish/\n", "t", "/fish", True),
    ("User-agent: *\nDisallow: /fish/\n", "t", "/fish/?id=1", False),
    ("User-agent: *\nDisallow: /*.php\n", "t", "/a/b.php?c", False),
    ("User-agent: *\nDisallow: /*.php\n", "t", "/windows.PHP", True),
    ("User-agent: *\nDisallow: /*.php$\n", "t", "/a.php", False),
    ("User-agent: *\nDisallow: /*.php$\n", "t", "/a.php?p", True),
    ("User-agent: *\nDisallow: /*.php$\n", "t", "/a.php5", True),
    ("User-agent: *\nDisallow: /fish*.php\n", "t", "/fishheads/catfish.php?p", False),
    ("User-agent: *\nDisallow: /fish*.php\n", "t", "/Fish.PHP", True),
    ("User-agent: *\nAllow: /page\nDisallow: /*.htm\n", "t", "/page.htm", False),
    ("User-agent: *\nAllow: /page\nDisallow: /*.ph\n", "t", "/page.php5", True),
    ("User-agent: *\nAllow: /$\nDisallow: /\n", "t", "/", True),
    ("User-agent: *\nAllow: /$\nDisallow: /\n", "t", "/page.htm", False),
    ("User-agent: *\nDisallow: /a%3cd.html\n", "t", "/a%3Cd.html", False),
    ("User-agent: *\nDisallow: /a%3Cd.html\n", "t", "/a%3cd.html", False),
    ("User-agent: *\nDisallow: /%7Ejoe/\n", "t", "/~joe/", False),
    ("User-agent: *\nDisallow: /~joe/\n", "t", "/%7Ejoe/", False),
    ("User-agent: *\nDisallow: /foo/bar/ツ\n", "t", "/foo/bar/%E3%83%84", False),
    ("User-agent: *\nDisallow: /foo/bar/%E3%83%84\n", "t", "/foo/bar/%E3%83%84", False),
    (
        "User-agent: *\nDisallow: /foo/bar/%62%61%7A\n",
        "t",
        "/foo/bar/baz",
        False,
    ),  # RFC 9309, 2.2.2
    ("User-agent: *\nDisallow: /a%2Fb\n", "t", "/a/b", True),
    ("User-agent: *\nDisallow: /a/b\n", "t", "/a%2Fb", True),
    ("User-agent: *\nDisallow: /?q=\n", "t", "/?q=1", False),
    ("User-agent: *\nDisallow: /*?\n", "t", "/a?b", False),
    ("User-agent: *\rDisallow: /x\r", "t", "/x", False),
    ("User-agent: *\r\nDisallow: /x\r\n", "t", "/x", False),
    ("  User-agent : *  \n\tDisallow :\t/x  # why\n", "t", "/x", False),
    ("user-AGENT: *\ndisALLOW: /x\n", "t", "/x", False),
    (
        (
            "User-agent: a\nDisallow: /x\n\nUser-agent: t\nDisallow: /y\n\nUser-agent: t\n"
            "Disallow: /z\n"
        ),
        "t",
        "/y",
        False,
    ),
    (
        (
            "User-agent: a\nDisallow: /x\n\nUser-agent: t\nDisallow: /y\n\nUser-agent: t\n"
            "Disallow: /z\n"
        ),
        "t",
        "/z",
        False,
    ),
    ("User-agent: t\nDisallow: /y\nUser-agent: *\nDisallow: /x\n", "t", "/x", True),
    ("User-agent: t\n\n\nDisallow: /x\n", "t", "/x", False),
    ("User-agent: t\nSitemap: http://a/s.xml\nDisallow: /x\n", "t", "/x", False),
    ("User-agent: t\nUnknown: 1\nDisallow: /x\n", "t", "/x", False),
    ("User-agent: *\nDisalow: /x\n", "t", "/x", False),
    (
        "User-agent: *\nDisallow: /path/file-with-a-%2A.html\n",
        "t",
        "/path/file-with-a-*.html",
        False,
    ),
    ("User-agent: *\nDisallow: /path/foo-%24\n", "t", "/path/foo-$", False),  # RFC 9309, 2.2.3
]

OURS = [  # where protego reads otherwise, and why we are right
    (
        "\ufeffUser-agent: *\nDisallow: /\n",
        "t",
        "/x",
        False,
        "a byte order mark is no part of the first line (RFC 9309, 2.2: UTF-8)",
    ),
    (
        "User-agent: t/1.0\nDisallow: /x\n",
        "t",
        "/x",
        False,
        "people write a version behind the token; it is meant for us",
    ),
    (
        "User-agent: tide\nDisallow: /\n",
        "tidemill",
        "/x",
        True,
        "the group of another crawler: a product token is matched whole (RFC 9309, 2.2.1)",
    ),
    (
        "<!DOCTYPE html><title>Not found</title>",
        "t",
        "/x",
        False,
        "a page in its place says nothing of rules; unknown is a no",
    ),
    ("User-agent: *\nDisallow: /x\0\n", "t", "/x", False, "NUL bytes are no part of a path"),
]
