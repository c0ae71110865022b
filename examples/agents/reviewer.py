"""An agent that reviews texts: `AGENT_ID=… AGENT_TOKEN=… python -m examples.agents.reviewer`."""

import asyncio
import logging
import os

from apps.agents.client import Agent, Task, TaskFailed


async def review(task: Task) -> dict[str, object]:
    """Count the words of a text, taking `seconds` for it."""
    text, seconds = task.inputs.get("text"), float(task.inputs.get("seconds", 0))
    if not isinstance(text, str):
        raise TaskFailed("`text` is missing: give it in the step's `with`")
    await task.log(f"reviewing {len(text)} characters\n")
    for part in range(10):
        await task.progress(part * 10, "reading")
        await asyncio.sleep(seconds / 10)
    words = len(text.split())
    return {"words": words, "verdict": "short" if words < 100 else "long"}


def main() -> None:
    """Perform tasks until SIGTERM."""
    logging.basicConfig(level=logging.INFO)
    url = os.environ.get("PLATFORM_URL", "http://localhost:8000")
    slots = int(os.environ.get("AGENT_SLOTS", "1"))
    Agent(url, os.environ["AGENT_ID"], os.environ["AGENT_TOKEN"], slots=slots).run(review)


if __name__ == "__main__":
    main()
