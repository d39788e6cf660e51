"""The documentation page of a method, read from its class, signature and docstring."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cmkd.errors import CmkdError
from cmkd.expression import parse_sum
from cmkd.io import write_text
from cmkd.markdown import table
from cmkd.methods.base import HOOKS, METHODS
from cmkd.options import documented, parameters


@dataclass(frozen=True)
class Hyperparameter:
    """One option of a method.

    Args:
        name: name of the option on the command line.
        type: annotated type.
        default: default value, as written in Python.
        text: description of the option in the docstring.
    """

    name: str
    type: str
    default: str
    text: str


@dataclass(frozen=True)
class Page:
    """The documentation of one method.

    Args:
        name: name of the method on the command line.
        kind: control, logits, features, relations, structure or cross-modal.
        idea: the first line of the docstring.
        details: the other paragraphs of the docstring.
        hyperparameters: the options, in the order of the signature.
        needs: what the method reads of a batch and of both outputs.
        required_hooks: hook that the method may require -> reason.
        trains_teacher: whether the teacher trains too.
        paper: the reference in one line.
        bibtex: the paper's BibTeX entry.
    """

    name: str
    kind: str
    idea: str
    details: tuple[str, ...]
    hyperparameters: tuple[Hyperparameter, ...]
    needs: tuple[str, ...]
    required_hooks: Mapping[str, str]
    trains_teacher: bool
    paper: str
    bibtex: str

    def markdown(self) -> str:
        """Return the page as Markdown."""
        lines = [f"# {self.name}", "", self.idea, ""]
        for paragraph in self.details:
            lines += [paragraph, ""]
        lines += [f"- Kind: {self.kind}", f"- Needs: {', '.join(self.needs) or 'nothing'}"]
        lines += [f"- In a loop of your own, call {HOOKS[hook]}: {why}" for hook, why in self.required_hooks.items()]
        lines += ["- The teacher trains too."] if self.trains_teacher else []
        lines += [f"- Paper: {self.paper}"] if self.paper else []
        if self.hyperparameters:
            cells = [(f"`{h.name}`", f"`{h.type}`", f"`{h.default}`", h.text) for h in self.hyperparameters]
            lines += ["", table(("option", "type", "default", "meaning"), cells)]
        options = ", ".join(f"{h.name}={h.default}" for h in self.hyperparameters[-1:])
        call = f"{self.name}({options})" if options else self.name
        compared = ",".join(dict.fromkeys(("none", call)))
        lines += ["", "```", f'cmkd run --data digits --methods "{compared}" --out runs/{self.name}', "```"]
        if self.bibtex:
            lines += ["", "```bibtex", self.bibtex, "```"]
        return "\n".join(lines) + "\n"


def page(name: str) -> Page:
    """Return the page of a method.

    Raises:
        CmkdError: if the name is unknown.

    Example:
        >>> [(h.name, h.default) for h in page("kd").hyperparameters]
        [('temperature', '2.0'), ('weight', '1.0')]
    """
    method = METHODS.find(name)
    (idea, *details), texts = documented(method)
    options = tuple(
        Hyperparameter(option, _type(parameter.annotation), repr(parameter.default), texts.get(option, ""))
        for option, parameter in parameters(method).items()
    )
    return Page(
        name,
        method.kind,
        idea,
        tuple(details),
        options,
        method.needs,
        method.required_hooks,
        method.trains_teacher,
        method.paper,
        method.bibtex,
    )


def pages() -> list[Page]:
    """Return the pages of all methods, sorted by name."""
    return [page(name) for name in METHODS]


def write_markdown(folder: Path) -> list[Path]:
    """Write one Markdown page per method, and ``index.md``, each atomically.

    Args:
        folder: output folder, created if it is missing.

    Returns:
        The files written, the index first.

    Raises:
        CmkdError: if a file to write exists with another title; nothing is written then.
    """
    everything = pages()
    cells = [(f"[{p.name}]({p.name}.md)", p.kind, p.idea, ", ".join(p.needs), p.paper) for p in everything]
    index = f"# Methods\n\n{table(('method', 'kind', 'idea', 'needs', 'paper'), cells)}\n"
    texts = {"index.md": index} | {f"{p.name}.md": p.markdown() for p in everything}
    for name, text in texts.items():
        path = folder / name
        if path.exists() and not path.read_bytes().startswith(text.splitlines()[0].encode()):
            raise CmkdError(f"'{path}' is not a page of methods: remove or rename it, or give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def bibliography(expressions: Iterable[str]) -> str:
    """Return the BibTeX entries of the methods in these expressions, each once, sorted by key.

    Unknown methods are skipped: the files of a run may name methods that only another machine has.

    Args:
        expressions: method expressions as for ``--methods``, such as ``["none", "kd+0.5*rkd"]``.

    Raises:
        CmkdError: if a text is not a valid expression.

    Example:
        >>> print(bibliography(["none", "kd(temperature=2)", "2*kd"]))  # one entry
        @article{hinton2015distilling,...}
    """
    names = {call.name for expression in expressions for call in parse_sum(expression)}
    entries = {METHODS.find(name).bibtex for name in names if name in METHODS} - {""}
    return "\n\n".join(sorted(entries, key=lambda entry: entry.partition("{")[2]))


def _type(annotation: object) -> str:
    """Return an annotation as written; without postponed evaluation (in a plug-in) it is converted from the type."""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
