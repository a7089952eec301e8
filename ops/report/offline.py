"""Find what an HTML page would load from outside its file, to check that it opens offline."""

import re

# a URL in an attribute that loads or links something; data: and #anchors stay inside the page
_ATTRIBUTE = re.compile(
    r"""(?<![\w-])(?:src|href|srcset|poster|data|action|background)\s*=\s*
                            (?:"(?!data:|\#)([^"]+)"|'(?!data:|\#)([^']+)'|(?!data:|\#)([^\s"'>]+))""",
    re.I | re.X,
)
_STYLE = re.compile(
    r"""@import\s*(?:url\(\s*)?["']?([^"');\s]+)|url\(\s*["']?(?!data:|\#)([^"')\s]+)""", re.I
)
_SCRIPT = re.compile(r"(<script[^>]*>)(.*?)(</script>)", re.I | re.S)
_CALL = re.compile(
    r"\b(?:fetch|import|importScripts|sendBeacon|XMLHttpRequest|WebSocket|EventSource)\s*\([^)]*\)?|"
    r"^\s*import\s[^;\n]+",
    re.M,
)
# XML namespaces in SVG, which a browser does not load
_NOT_LOADED = re.compile(r"<metadata>.*?</metadata>", re.S)


def outside_of(page: str) -> list[str]:
    """Every URL and every network call of an HTML page that leads outside the file, sorted."""
    scripts = [text for _, text, _ in _SCRIPT.findall(page)]
    markup = _SCRIPT.sub(r"\1\3", _NOT_LOADED.sub("", page))
    urls = {
        next(filter(None, groups))
        for pattern in (_ATTRIBUTE, _STYLE)
        for groups in pattern.findall(markup)
    }
    return sorted(urls | {call.strip() for text in scripts for call in _CALL.findall(text)})
