"""HTML as values: text is escaped unless it is already `Markup`, so nothing a device reports can become a tag."""

from html import escape

VOID = frozenset({"line", "circle", "path", "rect", "br"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Markup | None


def tag(name: str, *children: Child, **attributes: str | float | None) -> Markup:
    """One element. Attributes that are None are left out; `class_` is `class`, `stroke_width` is `stroke-width`."""
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.strip("_").replace("_", "-")}="{escape(str(value))}"')
    head = " ".join(words)
    return Markup(f"<{head}/>") if name in VOID else Markup(f"<{head}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Children one after the other; None is nothing."""
    parts = (child if isinstance(child, Markup) else escape(child) for child in children if child is not None)
    return Markup("".join(parts))


def card(title: str, hint: str, *children: Child, class_: str = "") -> Markup:
    """A titled box with one line that tells a newcomer what it shows."""
    head = tag("header", tag("h2", title), tag("p", hint))
    return tag("section", head, *children, class_=f"card {class_}".strip())


def empty(text: str) -> Markup:
    """What a box says as long as there is nothing to show."""
    return tag("p", text, class_="empty")
