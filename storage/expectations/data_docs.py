"""Great Expectations' page of a validation, made safe to open: offline, without script, and with
every string of the data escaped.
"""

import html
import re
from copy import copy
from typing import Any

_STYLE = (
    "<style>body{font:15px/1.5 sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:.5rem 0}"
    "td,th{border:1px solid #ccc;padding:.3rem .6rem}</style>"
)
_POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; script-src '
    "'none'; style-src 'unsafe-inline'; img-src data:\">"
)
_REMOVED = (  # elements that run, or that load something from the internet
    r"<script\b.*?</script\s*>",
    r"<(?:link|img)[^>]*https?://[^>]*>",
    r"<footer.*?</footer>",
)


def page_of(report: Any) -> str:
    """The page of a validation report of Great Expectations.

    Its templates do not escape what they show, so the strings in the results are escaped first.
    """
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    shown = copy(report)
    shown.results = [copy(item) for item in report.results]
    for item in shown.results:
        item.result = escaped(item.result)
    page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(shown))
    for element in _REMOVED:
        page = re.sub(element, "", page, flags=re.S | re.I)
    page = re.sub(r"https?://[^\"')\s<]+", "#", page)
    # the policy counts for what stands after it
    return page.replace("<head>", f"<head>{_POLICY}", 1).replace("</head>", f"{_STYLE}</head>", 1)


def escaped(value: Any) -> Any:
    """`value` with every string in it escaped for HTML, in lists, tuples and dicts too. Braces and
    dollars, which the templates would fill in, become entities.
    """
    if isinstance(value, str):
        text = html.escape(value, quote=True)
        return text.replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;")
    if isinstance(value, dict):
        return {escaped(key): escaped(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(escaped(item) for item in value)
    return value
