"""A template and what it shows -> one HTML file that fetches nothing. Without TensorFlow."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2

_HERE = Path(__file__).resolve().parent
STYLE, SORTING = _HERE / "page.css", _HERE / "page.js"  # of all pages; tables of the class `sortable` are sorted


def self_contained(
    template: Path,
    content: Mapping[str, Any],
    filters: Mapping[str, Callable] | None = None,
    styles: Sequence[Path] = (STYLE,),
    scripts: Sequence[Path] = (SORTING,),
) -> bytes:
    """The page; its own style and script are the only ones that it lets the browser use.

    Args:
        template: of Jinja. It sets `title`, includes `head.html.jinja`, and has `inline.js` in a script.
        content: what it shows; texts are escaped.
        filters: what else it calls.
        styles, scripts: files that become the page's one style and its one script.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _HERE]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= filters or {}
    files = {"css": styles, "js": scripts}
    inline = {kind: "".join(file.read_text(encoding="utf-8") for file in given) for kind, given in files.items()}
    hashes = {kind: f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for kind, text in inline.items()}
    page = environment.get_template(template.name).render(content, inline=inline, hashes=hashes)
    return page.encode("utf-8", "backslashreplace")
