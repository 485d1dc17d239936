"""What came of calls, kept on disk until the home has it, and the way there."""
