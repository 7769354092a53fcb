"""What several rooms know of mail syntax, once: addresses, xtext, return paths, timestamps, loopback."""
