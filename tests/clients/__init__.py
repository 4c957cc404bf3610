"""Who calls the gateway in the tests: the official SDKs, an agent, and plain HTTP; in this process or in their own."""
