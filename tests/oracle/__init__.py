"""The record of facts as it was before facts moved in sets: one recipient, one row at a time, through the ORM.

It is kept to be held against: recipients.move must write the very same rows (tests/test_move.py).
"""
