"""Faults at scale: whole daemons and clients under seeded faults, judged by an oracle that shares no code with them."""
