"""The agent: owns partitions of chat.requested, calls the model, streams frames, and lets the log decide."""
