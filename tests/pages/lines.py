"""A page as its reader meets it: its HTML as lines of text, in the order in which they are read.

`# `, `## `, `### ` are headings, `[text](address)` links, `[text]` buttons, `____ name` fields. `✓` stands before a
step that is done, `→` before the present one, `…` before one ahead. A colour that tells something stands as a word in
braces: `{overdue}`. Nothing of the text is left out, nor what is there for screen readers alone.
"""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

TONES = ("calm", "act", "halt", "end", "good", "overdue", "soon", "on_time")
"""Classes whose colour tells something, where they stand beside `state` (the dossier) or `left` (the days left)."""

VIETNAMESE = re.compile("[ăâđêôơưàảãáạằẳẵắặầẩẫấậèẻẽéẹềểễếệìỉĩíịòỏõóọồổỗốộờởỡớợùủũúụừửữứựỳỷỹýỵ]", re.IGNORECASE)
"""A letter that English does without."""

_PREFIXES = {"title": "title: ", "h1": "# ", "h2": "## ", "h3": "### ", "p": "", "li": "", "label": "", "button": ""}
_VOID = frozenset({"meta", "link", "input", "br", "img"})
_UNREAD = frozenset({"svg", "meta", "link", "script"})
"""What no reader is shown: a script element of ours holds data for search engines (lookup/web/services.py)."""


@dataclass
class _Node:
    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: "list[_Node | str]" = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    @property
    def tone(self) -> str:
        """The word in braces for its colour, if that tells something."""
        tells = "state" in self.classes or "left" in self.classes
        return "".join(f" {{{word}}}" for word in self.classes if tells and word in TONES)


class _Tree(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = _Node("")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = _Node(tag, dict(attrs))
        self._open[-1].children.append(node)
        if tag not in _VOID:
            self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(_Node(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, f"</{tag}> closes what is not open"

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def tree(html: str) -> _Node:
    """The page as nodes. AssertionError where an element is closed that is not open, or left open."""
    parser = _Tree()
    parser.feed(html)
    parser.close()
    assert parser._open == [parser.root], f"<{parser._open[-1].tag}> is never closed"
    return parser.root


def lines(html: str) -> list[str]:
    """The page's lines, without empty ones."""
    (page,) = (node for node in tree(html).children if isinstance(node, _Node))
    read = [f"lang: {page.attributes.get('lang')}", *_lines(page)]
    return [line for line in read if line]


def strange(html: str) -> list[str]:
    """Texts with a Vietnamese letter outside every element that says it is Vietnamese; the page itself aside."""
    (page,) = (node for node in tree(html).children if isinstance(node, _Node))
    return [text for text in _not_said_to_be_vietnamese(page.children) if VIETNAMESE.search(text)]


def _not_said_to_be_vietnamese(children: list[_Node | str]) -> list[str]:
    found = []
    for child in children:
        if isinstance(child, str):
            found.append(_squashed(child))
        elif child.attributes.get("lang") != "vi" and child.tag not in _UNREAD:
            found += _not_said_to_be_vietnamese(child.children)
    return found


def _lines(node: _Node) -> list[str]:
    if node.tag in _UNREAD:
        return []
    if node.tag in ("a", "input", "progress"):
        return [_squashed(_text(node))]
    if node.tag == "button":
        return [f"[{_squashed(_inside(node))}]"]
    if node.tag == "li":
        return [_step(node) + _squashed(_inside(node))]
    if node.tag in _PREFIXES:
        return [_PREFIXES[node.tag] + _squashed(_inside(node))]
    if node.tag == "div" and any(isinstance(child, _Node) and child.tag == "dt" for child in node.children):
        return [": ".join(_squashed(_text(child)) for child in node.children if isinstance(child, _Node))]
    found = [f"form {node.attributes.get('method')} {node.attributes.get('action')}"] if node.tag == "form" else []
    found.append(node.tone.strip())
    for child in node.children:
        found += [_squashed(child)] if isinstance(child, str) else _lines(child)
    return found


def _step(node: _Node) -> str:
    ahead = "… " if "ahead" in node.classes else ""
    done = "✓ " if "done" in node.classes else ""
    return done + ("→ " if node.attributes.get("aria-current") == "step" else "") + ahead


def _text(child: "_Node | str") -> str:
    """What stands in the line of the element around it."""
    if isinstance(child, str):
        return child
    if child.tag in _UNREAD:
        return ""
    if child.tag == "a":
        return f"[{_squashed(_inside(child))}]({child.attributes.get('href')})"
    if child.tag == "input":
        return f"____ {child.attributes.get('name')}"
    if child.tag == "progress":
        return f"{{{child.attributes.get('value')} of {child.attributes.get('max')}}}"
    return _inside(child) + child.tone


def _inside(node: _Node) -> str:
    return "".join(map(_text, node.children))


def _squashed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
