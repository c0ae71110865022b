"""Cuts the inside of one `${…}` into tokens. One pass, no recursion."""

import re
from typing import Literal, NamedTuple

from apps.workflows.engine.expressions.syntax import EXPRESSION_CHARACTERS, ExpressionError

TokenKind = Literal["word", "member", "number", "text", "sign", "default", "end"]

INTEGER_LIMIT = 2**63
_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
    | \.(?P<member>[\w-]+)
    | (?P<word>[A-Za-z_](?:[\w-]*\w)?)
    | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<default>:-)
    | (?P<sign>==|!=|<=|>=|&&|\|\||[<>!()\[\],}])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}


class Token(NamedTuple):
    """A token. `value` of a number or a text is the number or the text itself."""

    kind: TokenKind
    value: str | int | float
    position: int


def tokens_of(text: str, start: int, allowed: int) -> tuple[list[Token], int]:
    """The tokens of the expression that begins at `start`, and the position after its `}`.

    `allowed` is how many characters it may take.
    """
    found: list[Token] = []
    position, limit = start, start + allowed
    while True:
        match = _TOKEN.match(text, position, limit)
        if match is None:
            raise _unreadable(text, position, start, limit)
        kind = match.lastgroup
        if kind == "default":
            end = _end_of_default(text, match.end(), start, limit)
            found.append(Token("default", text[match.end() : end], position))
            found.append(Token("end", "}", end))
            return found, end + 1
        if kind == "sign" and match.group() == "}":
            found.append(Token("end", "}", position))
            return found, match.end()
        if kind == "number":
            found.append(Token("number", _number(match.group(), position), position))
        elif kind == "text":
            found.append(Token("text", _text(match.group(), position), position))
        elif kind == "member":
            found.append(Token("member", match.group("member"), position))
        elif kind == "word":
            found.append(Token("word", match.group(), position))
        elif kind == "sign":
            found.append(Token("sign", match.group(), position))
        position = match.end()


def _end_of_default(text: str, begin: int, start: int, limit: int) -> int:
    end = text.find("}", begin, limit)
    if end < 0:
        raise _unreadable(text, min(limit, len(text)), start, limit)
    nested = text.find("${", begin, end)
    if nested >= 0:
        raise ExpressionError("a default is plain text and cannot hold another `${…}`", position=nested)
    return end


def _unreadable(text: str, position: int, start: int, limit: int) -> ExpressionError:
    if position >= limit or (limit < len(text) and text.find("}", position, limit) < 0):
        return ExpressionError(
            f"the `${{…}}` parts of one string may hold {EXPRESSION_CHARACTERS} characters together", position=start
        )
    if position >= len(text):
        return ExpressionError("`${` is not closed by `}` (write `$${` for a literal `${`)", position=start)
    character = text[position]
    hints = {
        "+": "there is no arithmetic",
        "*": "there is no arithmetic",
        "/": "there is no arithmetic",
        "%": "there is no arithmetic",
        "-": "there is no arithmetic",
        "=": "write `==` to compare",
        "&": "write `and` or `&&`",
        "|": "write `or` or `||`",
        "'": "the text in quotes is not closed",
        '"': "the text in quotes is not closed",
        "{": "there are no objects",
        ".": "write `.name` or `['any key']`",
    }
    hint = hints.get(character, "it has no meaning in `${…}`")
    return ExpressionError(f"unexpected {character!r}: {hint}", position=position)


def _number(text: str, position: int) -> int | float:
    if text.lstrip("-").isdigit():
        whole = int(text) if len(text) <= 20 else INTEGER_LIMIT
        if not -INTEGER_LIMIT <= whole < INTEGER_LIMIT:
            raise ExpressionError("a whole number must fit in 64 bits", position=position)
        return whole
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ExpressionError("this number is too large", position=position)
    return number


def _text(quoted: str, position: int) -> str:
    def escape(match: re.Match[str]) -> str:
        try:
            return _ESCAPES[match.group(1)]
        except KeyError:
            raise ExpressionError(
                rf"unknown escape \{match.group(1)}: there are \n \t \r \\ \' \"", position=position + match.start()
            ) from None

    return _ESCAPE.sub(escape, quoted[1:-1])
