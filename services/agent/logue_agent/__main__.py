"""`python -m logue_agent` runs the agent."""

from logue_agent.main import main

main()
