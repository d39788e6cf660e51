"""Render pages from the templates of this package."""

from __future__ import annotations

import shlex

from jinja2 import Environment, PackageLoader, select_autoescape


def render(template: str, **values: object) -> str:
    """Return a page that needs no other file.

    Args:
        template: name of a file in ``templates/``.
        values: values that the template shows. Its filters ``number``, ``percent`` and ``signed`` (percent with a sign)
            write a dash for None; ``word`` quotes a value as one word for a shell.
    """
    made = Environment(loader=PackageLoader("cmkd.report"), autoescape=select_autoescape(), trim_blocks=True)
    for name, form, factor in (("number", "{:.3g}", 1), ("percent", "{:.1f}", 100), ("signed", "{:+.1f}", 100)):
        made.filters[name] = lambda v, form=form, factor=factor: "—" if v is None else form.format(factor * v)
    made.filters["word"] = lambda value: shlex.quote(str(value))
    return made.get_template(template).render(**values)
