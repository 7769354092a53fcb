"""Real mail servers for the tests: downloaded, unpacked, each run in namespaces of its own, gone with the test run."""
