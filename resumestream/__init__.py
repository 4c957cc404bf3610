"""resumestream: streaming LLM answers that outlive their caller."""
