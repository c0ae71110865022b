"""An agent, and a workflow with a step for it."""
