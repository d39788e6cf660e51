"""Users' text in Markdown is shown literally, as an independent parser confirms."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from cmkd.errors import one_line
from cmkd.markdown import code, escape, fenced, table

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TEXTS = st.one_of(
    st.text(max_size=20),
    st.lists(
        st.sampled_from([*"\\`*_[]()<>&|~#-+=.:!\"'", "1.", "a", "é", " ", "\n", "&amp;", "<b>", "](x)", "```"]),
        max_size=8,
    ).map("".join),
)
some = settings(max_examples=80, deadline=None)


def shown(text: str) -> str:
    return one_line(" ".join(text.split()))


def inline(tokens: list[Token]) -> list[Token]:
    return [token for token in tokens if token.type == "inline"]


def content(token: Token) -> str:
    """Return the text of an inline token that contains only text."""
    children = token.children or []
    assert {child.type for child in children} <= {"text"}, token.content
    return "".join(child.content for child in children)


@some
@given(TEXTS)
@example("_a_ *b* a_b_c ~~d~~")
def test_any_text_shows_as_it_stands(text: str) -> None:
    for prefix in ("", "- **name**: ", "# "):
        tokens = PARSER.parse(prefix + escape(text))
        lines = inline(tokens)
        assert len(lines) == bool(prefix or shown(text))
        if not prefix and lines:
            assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
            assert content(lines[0]) == shown(text)
    assert "".join(child.content for child in inline(PARSER.parse(f"x {escape(text)}"))[0].children or []).strip() == (
        f"x {shown(text)}".strip()
    )


@some
@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_cells_stay_in_their_columns(texts: list[str]) -> None:
    cells = [*map(escape, texts), "**all**", code("a|b")]
    lines = inline(PARSER.parse(table([f"c{k}" for k in range(len(cells))], [cells])))
    assert len(lines) == 2 * len(cells)
    assert [content(line) for line in lines[len(cells) : -2]] == [*map(shown, texts)]


@some
@given(TEXTS)
def test_nothing_ends_code(text: str) -> None:
    children = inline(PARSER.parse(f"x {code(shown(text) or 'x')} y"))[0].children or []
    assert [child.type for child in children] == ["text", "code_inline", "text"]
    tokens = PARSER.parse(fenced(text.replace("\r", ""), "bibtex"))
    assert [token.type for token in tokens] == ["fence"]
