"""The `${…}` grammar: references, comparisons and `len` over JSON data. It calls nothing and reads nothing else.

A string may hold literal text and `${…}` parts; `$${` is a literal `${`. A string that is one whole `${…}` becomes
the value itself, with its type. In any other string each part is turned into text: text as it is, null as nothing,
booleans and numbers as in JSON, lists and objects as compact JSON. Results are never evaluated again.

Inside a part:

* references `inputs.a.b[0]`, `steps.ID.outputs.x`, `item.x`, `secrets.NAME`; a key that is no plain word is written
  `['key']`; an index counts from 0, a negative one from the end;
* `NAME` and `${NAME:-default text}`: an environment variable, of those the context offers; the default stands for
  one that is not offered or is empty;
* numbers, 'text', "text", `true`, `false`, `null`, lists `[…]`;
* `==` `!=` `<` `<=` `>` `>=` `in` `not in`, `and` `or` `not` (also `&&` `||` `!`), parentheses, `len(…)`.

The rules that are easy to get wrong:

* **A key that is missing is an error everywhere**, also beside `== null`: a misspelt name must not read as null. The
  only fallback is the default of an environment variable. The outputs of a skipped step are an empty object, so ask
  `'total' in steps.sum.outputs`, or `len(steps.sum.outputs) > 0`; `and` and `or` do not look at their right side
  when the left one decides.
* `==` between different types is false (`1 == '1'`, `1 == true`); `<` between them is an error.
* False are: `false`, `null`, `0`, `""`, `"false"`, `[]` and `{}`. Everything else is true. `and`, `or` and `not`
  give `true` or `false`, never an operand.
* Keys of objects are never rendered, only values.
"""

from apps.workflows.engine.expressions.evaluate import NO_ITEM, Context, condition, render
from apps.workflows.engine.expressions.parser import parse, references
from apps.workflows.engine.expressions.syntax import ExpressionError, Reference, Template

__all__ = [
    "NO_ITEM",
    "Context",
    "ExpressionError",
    "Reference",
    "Template",
    "condition",
    "parse",
    "references",
    "render",
]
