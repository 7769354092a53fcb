"""What a command does by itself, without the daemon: read files, start processes, print."""
