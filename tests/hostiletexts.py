"""Texts that somebody might put into a file to harm who looks at it; none of them becomes HTML."""

from __future__ import annotations

from html.parser import HTMLParser

ELEMENTS = {"div", "style", "header", "table", "thead", "tbody", "tr", "th", "td", "bdi"}
ELEMENTS |= {"details", "summary", "small", "pre"}
ATTRIBUTES = {("div", "class", "fedarchive-summary"), ("details", "open", None)}

MARKUP = [
    "<script>alert(1)</script>",
    "</script><script src=//evil.example/x.js></script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe srcdoc='<script>1</script>'>",
    "</td></tr></table><h1>taken over</h1>",
    "</details></div><div class='fedarchive-summary'>",
    "<style>*{display:none}</style>",
    "</style><script>1</script>",
    "<a href='javascript:alert(1)'>model</a>",
    "<!-- comment",
    "--> out",
    "<![CDATA[x]]>",
    "<?xml version='1.0'?>",
    "<!DOCTYPE html>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "` onclick=`x",
    "x=y onload=z",
    "&lt;script&gt;",
    "&#60;script&#62;",
    "&#x3c;b&#x3e;",
    "&amp;amp;",
    "&notanentity",
    "${alert(1)}{{7*7}}<%= x %>",
    "$$\\href{javascript:alert(1)}{x}$$",
    "[link](javascript:alert(1)) ![i](x)",
    "<plaintext>",
    "<xmp><noscript>",
    "<meta http-equiv=refresh content=0>",
]
UNSEEN = [
    "safe\u202egnp.exe",
    "\u2066isolate\u2069",
    "\u200e\u200fmarks\u061c",
    "zero\u200bwidth\u200d\ufeff",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "\x9b31m",
    "bell\x07back\x08\x7f",
    "line\nbreak\r\n  w  float32  (1,)  4 bytes",
    "tab\tvertical\x0bform\x0c",
    "\u2028separator\u2029\x85",
    "e" + "\u0301" * 300,
    "\U000e0041\U000e0042tags",
    "\ue000private\ufdd0",
    "non\u00a0breaking\u3000wide",
]
LONG = ["<b>" * 21846, "\u202e" * 65536, "\U0001f600" * 16384, "&" * 65536]
SURROGATES = ["\ud800lone", "<\udfff>"]
STORABLE = [*MARKUP, *UNSEEN, *(text[:3000] for text in LONG)]
"""Names that a file may hold."""
ALL = [*MARKUP, *UNSEEN, *LONG, *SURROGATES, "nul\x00byte"]


class Page(HTMLParser):
    """Elements, attributes and texts of HTML; raises AssertionError where one is not of ours."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in ELEMENTS
        self.open.append(tag)
        for name, value in attributes:
            assert (tag, name, value) in ATTRIBUTES or (name == "colspan" and (value or "").isdigit())

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    handle_pi = unknown_decl = handle_comment


def require_inert(text: str, html: str) -> Page:
    """Require a text and HTML that are short and show nothing but what can be seen; return the page."""
    assert len(text.encode()) < 4_000
    assert text.replace("\n", "").isprintable()
    assert len(html.encode()) < 100_000
    page = Page(html)
    assert "".join(page.texts).isprintable()
    outside = html[: html.index("<style>")] + html[html.index("</style>") :]
    assert "http" not in html[html.index("<style>") : html.index("</style>")]
    assert " id=" not in outside.replace("&", "")[: outside.index("<header>")]
    return page
