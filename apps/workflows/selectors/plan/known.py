"""What is known of a definition before it runs: that which rests on the given inputs alone.

Outputs of steps, items, secrets and environment variables are not replaced: the first two are not there yet, and a
plan is shown to callers who may read a workflow and no more.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from apps.workflows.engine.expressions import Context, ExpressionError, Template, condition, parse, render
from apps.workflows.selectors.plan.order import Truth

CHARACTERS = 4 * 2**20  # of expressions and of the inputs they name, each time they do: what one plan may cost
UNKNOWN: Final = "unknown"


class Known:
    """Fills in inputs, and notes what it met on the way: what cannot be right, and the variables asked for.

    Beyond `CHARACTERS` of data the rest is unknown and stays as it is written; `is_partial` says so.
    """

    def __init__(self, inputs: Mapping[str, Any], *, all_given: bool) -> None:
        self._context = Context(inputs=inputs)
        self._all_given = all_given
        self._sizes = {name: len(json.dumps(value)) for name, value in inputs.items()}
        self._left = CHARACTERS
        self.is_partial = False
        self.errors: list[str] = []
        self.variables: dict[str, None] = {}

    def truth(self, when: str | None) -> Truth:
        """Whether the condition holds; a step without one always may run."""
        if when is None:
            return True
        if self._read(when) is None:
            return UNKNOWN
        try:
            return condition(when, self._context)
        except ExpressionError as error:
            self.errors.append(f"`when`: {error.message}")
            return UNKNOWN

    def count(self, items: Any) -> int | Literal["unknown"] | None:
        """How many items a `for_each` has; None for a step without one."""
        if items is None:
            return None
        if isinstance(items, str):
            if self._read(items) is None:
                return UNKNOWN
            try:
                items = render(items, self._context)
            except ExpressionError as error:
                self.errors.append(f"`for_each`: {error.message}")
                return UNKNOWN
        else:
            self.filled(items)
        if not isinstance(items, list):
            self.errors.append("`for_each` must be a list")
            return UNKNOWN
        return len(items)

    def filled(self, value: Any) -> Any:
        """`value` with each text replaced that rests on inputs alone, all else as it is written."""
        if isinstance(value, str):
            return self._text(value) if "${" in value else value
        if isinstance(value, Mapping):
            return {key: self.filled(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.filled(inner) for inner in value]
        return value

    def _text(self, text: str) -> Any:
        if self._read(text) is None:
            return text
        try:
            return render(text, self._context)
        except ExpressionError as error:
            self.errors.append(error.message)
            return text

    def _read(self, text: str) -> Template | None:
        """The template where it rests on inputs that are known, and is not too much; notes its variables."""
        self._left -= len(text)
        if self._left < 0:
            self.is_partial = True
            return None
        try:
            template = parse(text)
        except ExpressionError as error:
            self.errors.append(error.message)
            return None
        is_known, cost = True, 0
        for lookup in template.lookups():
            reference = lookup.reference
            if reference.root == "env" and lookup.default is None:
                self.variables[str(reference.path[0])] = None
            if reference.root != "inputs":
                is_known = False
            elif not reference.path:
                is_known = is_known and self._all_given
                cost += sum(self._sizes.values())
            else:
                name = str(reference.path[0])
                is_known = is_known and name in self._sizes
                cost += self._sizes.get(name, 0)
        if not is_known:
            return None
        if cost > self._left:
            self.is_partial = True
            return None
        self._left -= cost
        return template
